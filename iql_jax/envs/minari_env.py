"""Minari's datasets as stored on this machine, and the environments they recover."""

import contextlib
import functools
import pathlib
import warnings
from typing import TYPE_CHECKING, Any

from iql_jax.errors import InputError

if TYPE_CHECKING:
    import gymnasium

PREFIX = "minari/"
_INSTALL = 'pip install "minari[hdf5,hf]>=0.5.3,<0.6"'


def minari_package() -> Any:
    """Returns the package `minari`.

    Raises:
      InputError: it is not installed.
    """
    try:
        import minari
    except ImportError as error:
        raise InputError(
            f"names that begin with {PREFIX} need the package minari: {_INSTALL}"
        ) from error
    return minari


def dataset_folder(name: str, root: str | pathlib.Path | None = None) -> pathlib.Path:
    """Returns where the dataset `minari/ID` is kept, whether it is there or not.

    Args:
      name: the dataset's name.
      root: the folder of all datasets; None: Minari's own, `$MINARI_DATASETS_PATH` or
        `~/.minari/datasets`.
    """
    bare = name.removeprefix(PREFIX)
    if root is not None:
        return pathlib.Path(root).expanduser() / bare
    minari_package()
    from minari.storage.datasets_root_dir import get_dataset_path

    return get_dataset_path(bare)


def open_dataset(name: str, root: str | pathlib.Path | None = None) -> Any:
    """Returns the `minari.MinariDataset` of `minari/ID`, which must be on this machine.

    Raises:
      InputError: Minari is not installed, or the dataset is not here or cannot be read.
    """
    minari = minari_package()
    folder = dataset_folder(name, root)
    if not (folder / "data").is_dir():
        raise InputError(f"'{name}' is not on this machine (looked for in {folder})")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return minari.MinariDataset(folder / "data")
    except Exception as error:  # Minari raises what its storages and JSON happen to raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{folder}: Minari cannot read it: {reason}") from error


def has_environment(dataset: Any) -> bool:
    """Returns whether the dataset says what environment to evaluate in."""
    return dataset._eval_env_spec is not None or dataset.env_spec is not None


def make_recovered(name: str, render_mode: str | None = None) -> "gymnasium.Env":
    """Returns the environment that the dataset `minari/ID` names for evaluation, flattened.

    Raises:
      InputError: the dataset is not here, names none, or the environment cannot be made.
    """
    import gymnasium

    from iql_jax.envs.flatten import flatten_env

    dataset = open_dataset(name)
    if not has_environment(dataset):
        raise InputError(
            f"'{name}' does not say what environment it comes from; name one with --env_name and "
            f"the data with --dataset={name}"
        )
    spec = dataset._eval_env_spec or dataset.env_spec
    # Not every environment takes a render mode, so none is not passed on.
    options: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            env = gymnasium.make(spec, disable_env_checker=True, **options)
    except (gymnasium.error.Error, ImportError, AttributeError) as error:
        reason = " ".join(str(error).split())
        needs = "; ".join(dataset.storage.metadata.get("requirements", []))
        hint = f"; the dataset asks for {needs}" if needs else ""
        raise InputError(
            f"the environment {spec.id!r} of '{name}' cannot be made: {reason}{hint}"
        ) from error
    return flatten_env(env)


@functools.lru_cache(maxsize=64)
def _references(folder: pathlib.Path) -> tuple[float, float] | None:
    with contextlib.suppress(Exception):  # no dataset, no scores
        metadata = minari_package().MinariDataset(folder / "data").storage.metadata
        return float(metadata["ref_min_score"]), float(metadata["ref_max_score"])
    return None


def reference_returns(name: str) -> tuple[float, float] | None:
    """Returns (random, expert) returns that the dataset `minari/ID` brings along, or None."""
    try:
        return _references(dataset_folder(name))
    except InputError:
        return None
