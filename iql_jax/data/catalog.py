"""Which datasets there are, and which of them are on this machine."""

import dataclasses
import pathlib
from collections.abc import Iterator

from iql_jax.data import d4rl, generated, ogbench, ogbench_generate
from iql_jax.envs import ogbench_env
from iql_jax.envs.d4rl_names import BINARY_PREFIX, binary_names, datasets


@dataclasses.dataclass(frozen=True)
class Entry:
    """A dataset that can be named.

    Attributes:
      name: with its prefix.
      path: where its file is or would be; None where that is not one file.
      is_here: whether it is on this machine.
    """

    name: str
    path: pathlib.Path | None
    is_here: bool


def entries() -> Iterator[Entry]:
    """Return every known dataset, and Minari's on this machine, prefix by prefix."""
    for name in generated.NAMES:
        yield _entry(name, generated.default_path(name))
    for name in ogbench_generate.NAMES:
        stem = ogbench_env.parse_name(name).file_stem
        yield _entry(name, ogbench_generate.default_paths(stem)[0])
    for name, entry in datasets().items():
        path = d4rl.data_folder() / entry["url"].rsplit("/", 1)[-1]
        yield _entry(f"d4rl/{name}", path)
        if BINARY_PREFIX + name in binary_names():
            yield _entry(BINARY_PREFIX + name, path)
    for name in (*ogbench_env.NAMES, *ogbench_env.ALL_TASKS):
        stem = ogbench_env.parse_name(name).file_stem
        yield _entry(name, ogbench.data_folder() / f"{stem}.npz")
    yield from _minari()


def _entry(name: str, path: pathlib.Path) -> Entry:
    return Entry(name, path, path.is_file())


def _minari() -> Iterator[Entry]:
    """Return Minari's datasets on this machine, none without the package."""
    try:
        import minari
    except ImportError:
        return
    import warnings

    from iql_jax.envs.minari_env import dataset_folder

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        local = minari.list_local_datasets()
    for name in local:
        yield Entry(f"minari/{name}", dataset_folder(name), True)


def to_text(found: list[Entry]) -> str:
    """Return entries as lines for a terminal."""
    width = max(len(entry.name) for entry in found)
    return "\n".join(
        f"{entry.name.ljust(width)}  {entry.path if entry.is_here else '-'}" for entry in found
    )
