"""Datasets by name. The part before the first slash says where a dataset comes from."""

import difflib
import os
from collections.abc import Callable

from iql_jax.data.raw import RawDataset, validate
from iql_jax.envs import d4rl_names, ogbench_env
from iql_jax.errors import InputError


def load(name: str, *, data_dir: str | os.PathLike[str] | None = None) -> RawDataset:
    """Return the dataset `name`, downloaded or made first where it has to be, and validated.

    `d4rl/hopper-medium-v2` (or bare `hopper-medium-v2`), `generated/antmaze-medium-play-v0`,
    `ogbench/antmaze-large-navigate-singletask-task1-v0` (or `...-singletask-all-v0`, its five tasks
    at once), `minari/D4RL/pen/human-v2`, `file/path/to.hdf5`, or `auctionnet/path/to.csv`.

    Args:
      name: the dataset's name.
      data_dir: the folder for files that are downloaded or made; None: the source's own default.

    Raises:
      InputError: if the name is unknown (with the nearest known one), or the data cannot be had,
        read or used.
    """
    prefix, slash, _ = name.partition("/")
    loaders = _loaders()
    if slash and prefix in loaders:
        raw = loaders[prefix](name, data_dir)
    elif f"d4rl/{name}" in known_names():
        raw = loaders["d4rl"](name, data_dir)
    else:
        raise InputError(_unknown(name, list(loaders)))
    validate(raw)
    return raw


def tasks(name: str) -> tuple[str, ...]:
    """Return the names of the datasets that `name` is at once, () where it is one.

    Raises:
      InputError: it is of a source that has such names, and is none of them.
    """
    return ogbench_env.task_names(name) if ogbench_env.is_ogbench(name) else ()


def known_names() -> list[str]:
    """Return every dataset name that does not depend on the user's files, with its prefix."""
    from iql_jax.data import d4rl, generated, ogbench_generate

    return [
        *generated.NAMES,
        *ogbench_generate.NAMES,
        *(f"d4rl/{name}" for name in d4rl.datasets()),
        *d4rl_names.binary_names(),
        *ogbench_env.NAMES,
        *ogbench_env.ALL_TASKS,
    ]


def _loaders() -> dict[str, Callable[[str, str | os.PathLike[str] | None], RawDataset]]:
    """Return the function that loads a name, by prefix; each is imported when it is called."""

    def load_binary(name: str, data_dir: str | os.PathLike[str] | None) -> RawDataset:
        from iql_jax.data import adroit_binary

        return adroit_binary.load_binary(name, data_dir)

    def load_d4rl(name: str, data_dir: str | os.PathLike[str] | None) -> RawDataset:
        from iql_jax.data import d4rl

        return d4rl.load_d4rl(name, data_dir)

    def load_file(name: str, data_dir: str | os.PathLike[str] | None) -> RawDataset:
        from iql_jax.data import files

        del data_dir  # a file's name is its whole path
        return files.load_file(name)

    def load_generated(name: str, data_dir: str | os.PathLike[str] | None) -> RawDataset:
        from iql_jax.data import generated

        if ogbench_env.is_ogbench(name):
            return load_ogbench(name, data_dir)
        return generated.load_generated(name, data_dir)

    def load_auctionnet(name: str, data_dir: str | os.PathLike[str] | None) -> RawDataset:
        from iql_jax.data import auctionnet

        del data_dir  # a file's name is its whole path
        return auctionnet.load_auctionnet(name)

    def load_minari(name: str, data_dir: str | os.PathLike[str] | None) -> RawDataset:
        from iql_jax.data import minari

        return minari.load_minari(name, data_dir)

    def load_ogbench(name: str, data_dir: str | os.PathLike[str] | None) -> RawDataset:
        from iql_jax.data import ogbench

        return ogbench.load_ogbench(name, data_dir)

    return {
        "auctionnet": load_auctionnet,
        "binary": load_binary,
        "d4rl": load_d4rl,
        "file": load_file,
        "generated": load_generated,
        "minari": load_minari,
        "ogbench": load_ogbench,
    }


def _unknown(name: str, prefixes: list[str]) -> str:
    if name.endswith((".hdf5", ".h5", ".npz")):
        return f"unknown dataset '{name}'; a file of your own is named file/{name}"
    known = {full: full for full in known_names()}
    known |= {full.partition("/")[2]: full for full in known}  # a bare name is D4RL's, if it is one
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean '{known[nearest[0]]}'?" if nearest else ""
    allowed = ", ".join(f"{prefix}/..." for prefix in prefixes)
    return f"unknown dataset '{name}'{hint} (allowed: {allowed}, or a bare D4RL name)"
