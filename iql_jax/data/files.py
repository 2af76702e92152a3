"""The user's own files in D4RL's layout, as `file/path/to.hdf5` or `file/path/to.npz`.

Keys: `observations`, `actions`, `rewards`, `terminals`, and as available `timeouts` and
`next_observations`. Two readings, by what the file has:

- with `next_observations`, every row is a transition, rows at a time limit included;
- without, D4RL's rules: the next row is the next observation, rows of `timeouts` and the last row
  are dropped, as their next observation was not stored.

Actions may also be integers (rows,): choices, which become one-hot rows.

A folder, `file/path/to/folder`, is all files in it, each read by itself, in the order of their
names.
"""

import pathlib
from typing import Any

import numpy as np

from iql_jax.data import d4rl, reader
from iql_jax.data.raw import RawDataset
from iql_jax.errors import InputError

_PREFIX = "file/"


def load_file(name: str) -> RawDataset:
    """Return the transitions of the file, or of the folder of files, named by `file/<path>`.

    The path is relative to the current folder, or absolute (`file//data/x.hdf5`), or in a home
    (`file/~/x.hdf5`). There is no environment for evaluation unless the user names one.

    Raises:
      InputError: naming the file, the key, the row and the reason.
    """
    path = _path(name)
    return _load_folder(name, path) if path.is_dir() else _load_one(name, path)


def _load_folder(name: str, folder: pathlib.Path) -> RawDataset:
    files = sorted(file for file in folder.iterdir() if file.suffix in reader.SUFFIXES)
    if not files:
        raise InputError(
            f"{folder}: a folder of data has files that end in {' or '.join(reader.SUFFIXES)}; "
            "this one has none"
        )
    parts = [_load_one(name, file) for file in files]
    first = parts[0]
    for file, part in zip(files, parts, strict=True):
        for field in ("observations", "actions"):
            found, wanted = getattr(part, field).shape[1], getattr(first, field).shape[1]
            if found != wanted:
                raise InputError(
                    f"{file}: '{field}' has {found} numbers per row but {files[0].name} has "
                    f"{wanted}; files of one folder must be of one environment"
                )
    arrays: dict[str, Any] = {
        field: np.concatenate([getattr(part, field) for part in parts])
        for field in (
            "observations",
            "actions",
            "rewards",
            "masks",
            "next_observations",
            "ends",
        )
    }
    return RawDataset(
        name=name,
        source=f"own files, {len(files)} in {folder}",
        extras={"path": str(folder.absolute()), "files": [file.name for file in files]},
        **arrays,
    )


def _load_one(name: str, path: pathlib.Path) -> RawDataset:
    with reader.open_file(path) as file:
        keys = set(file.keys())
        metadata = _metadata(file)
    extras = {"path": str(path.absolute()), "metadata": metadata}
    source = _source(path, keys, metadata)
    if "next_observations" not in keys:
        return d4rl.read_dataset(
            path, name=name, source=source, env_name=None, max_episode_steps=None, extras=extras
        )
    arrays = reader.read_arrays(path)
    ends = d4rl.episode_ends(
        arrays["observations"], arrays["next_observations"], arrays["terminals"]
    )
    if "timeouts" in arrays:
        ends |= arrays["timeouts"]
    return RawDataset(
        name=name,
        source=source,
        observations=arrays["observations"],
        actions=arrays["actions"],
        rewards=arrays["rewards"],
        masks=1.0 - arrays["terminals"].astype(np.float32),
        next_observations=arrays["next_observations"],
        ends=ends,
        extras=extras,
    )


def _path(name: str) -> pathlib.Path:
    text = name.removeprefix(_PREFIX)
    if not text:
        raise InputError(f"'{name}' names no file; write file/<path>, e.g. file/data/mine.hdf5")
    path = pathlib.Path(text).expanduser()
    if not path.exists() and not path.is_absolute() and pathlib.Path("/", path).is_file():
        raise InputError(
            f"{path}: no such file (looked for at {path.absolute()}); an absolute path has two "
            f"slashes: {_PREFIX}/{path}"
        )
    return path


def _metadata(file: Any) -> dict[str, Any]:
    """Return what an HDF5 file's group `metadata` says in plain values, as D4RL's files do."""
    group = file.get("metadata")
    attributes = getattr(group, "attrs", {})
    plain = {}
    for key, value in attributes.items():
        value = value.item() if isinstance(value, np.generic) else value
        if isinstance(value, str | int | float | bool):
            plain[key] = value
    return plain


def _source(path: pathlib.Path, keys: set[str], metadata: dict[str, Any]) -> str:
    source = f"own file {path}"
    if metadata.get("note"):
        source += f" ({metadata['note']})"
    if not keys & {"timeouts", "next_observations"}:
        # Nothing in such a file tells a time limit from a step, so the reader should know.
        source += " (no 'timeouts': episodes end at terminals only)"
    return source
