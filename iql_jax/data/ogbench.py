"""OGBench's single-task datasets, as `ogbench/antmaze-large-navigate-singletask-task1-v0`.

All five tasks of a set share one file, `antmaze-large-navigate-v0.npz`; a task gives it rewards and
masks by OGBench's own relabelling: -1 until the task's success, masks 0 at it (manipulation: minus
the parts not yet done). The file's `terminals` are ends of trajectories and cut nothing; the last
row of a trajectory has no next state and is left out.
"""

import dataclasses
import os
import pathlib
from typing import Any

import numpy as np

from iql_jax.data import reader
from iql_jax.data.raw import RawDataset
from iql_jax.envs import ogbench_env
from iql_jax.errors import InputError

_URL = "https://rail.eecs.berkeley.edu/datasets/ogbench"
# Keys of a file: rows to learn from, and what rewards are computed from.
_NEEDED = ("observations", "actions", "terminals", "qpos")
_STATES = ("qpos", "qvel", "button_states")
SPLITS = ("train", "val")


def load_ogbench(
    name: str, data_dir: str | os.PathLike[str] | None = None, split: str = "train"
) -> RawDataset:
    """Return the transitions of a task, downloading the dataset's file if it is not here.

    Args:
      name: see above; with `generated/ogbench-` in front, data in the same format made here.
      data_dir: the folder of the files; None: `~/.ogbench/data`, OGBench's own.
      split: "train", or "val" for the smaller set of OGBench's pair.

    Raises:
      InputError: the name is unknown, the file cannot be had or read, or ogbench is not installed.
    """
    parts = ogbench_env.parse_name(name)
    path = _file(name, parts, data_dir, split)
    rows = _read(path)
    note = rows.pop("note", None)
    names = ogbench_env.task_names(name)
    outcomes = [_outcomes(task, rows) for task in names or (name,)]
    raw = _dataset(name, path, rows, *outcomes[0], note)
    if not names:
        return raw
    return dataclasses.replace(
        raw, tasks=names, outcomes=np.stack([np.stack(pair, axis=1) for pair in outcomes])
    )


def data_folder(data_dir: str | os.PathLike[str] | None = None) -> pathlib.Path:
    """Return the folder of OGBench's files: `data_dir`, or OGBench's own."""
    return pathlib.Path(data_dir or "~/.ogbench/data").expanduser()


def _file(
    name: str,
    parts: ogbench_env.Parts,
    data_dir: str | os.PathLike[str] | None,
    split: str,
) -> pathlib.Path:
    if split not in SPLITS:
        raise InputError(f"split is {split!r}, but must be one of {', '.join(SPLITS)}")
    if parts.generated:
        from iql_jax.data import ogbench_generate

        return ogbench_generate.generate(parts.file_stem, data_dir)[SPLITS.index(split)]
    file_name = parts.file_stem + ("" if split == "train" else "-val") + ".npz"
    path = data_folder(data_dir) / file_name
    if not path.is_file():
        _download(name, f"{_URL}/{file_name}", path)
    return path


def _download(name: str, url: str, path: pathlib.Path) -> None:
    from iql_jax.data import download

    def check(part: pathlib.Path) -> None:
        try:
            with np.load(part) as file:
                list(file.files)
        except Exception as error:
            raise ValueError(f"it is no NPZ file: {error}") from error

    try:
        download.download(url, path, check=check)
    except (download.DownloadError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"'{name}' needs the file '{path.name}', looked for in '{path.parent}'; downloading "
            f"{url} failed: {reason}. Put the file into that folder by hand, or run without a "
            "download: --env_name=generated/ogbench-antmaze-medium-navigate-singletask-task1-v0"
        ) from error


def _read(path: pathlib.Path) -> dict[str, Any]:
    """Return the transitions' rows by key, and `note` where the file has one.

    `observations`, `next_observations`, `actions` f32; `ends` bool[M]; and those of `_STATES` that
    the file has, as stored.

    Raises:
      InputError: the file cannot be read, or its arrays do not fit each other.
    """
    with reader.open_file(path) as file:
        missing = [key for key in _NEEDED if key not in file]
        if missing:
            raise InputError(
                f"{path}: missing {', '.join(missing)}; OGBench's files have "
                f"{', '.join(_NEEDED)}, and this one {', '.join(file.files)}"
            )
        arrays = {key: file[key] for key in (*_NEEDED, *_STATES) if key in file}
        note = str(file["note"]) if "note" in file else None
    num_rows = len(arrays["observations"])
    for key, array in arrays.items():
        if len(array) != num_rows:
            raise InputError(
                f"{path}: '{key}' has {len(array)} rows but 'observations' has {num_rows}; every "
                "key must have one row per step"
            )
    last = arrays["terminals"].astype(np.bool_).reshape(-1)
    if not num_rows or not last[-1]:
        raise InputError(f"{path}: 'terminals' must end with 1, the end of the last trajectory")
    keep = np.flatnonzero(~last)
    rows: dict[str, Any] = {key: arrays[key][keep] for key in _STATES if key in arrays}
    rows["observations"] = arrays["observations"][keep].astype(np.float32, copy=False)
    rows["next_observations"] = arrays["observations"][keep + 1].astype(np.float32, copy=False)
    rows["actions"] = arrays["actions"][keep].astype(np.float32, copy=False)
    rows["ends"] = last[keep + 1]
    if note is not None:
        rows["note"] = note
    return rows


def _outcomes(name: str, rows: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return rewards f32[N] and masks f32[N] of the task in `name`."""
    env = ogbench_env.make_ogbench(name)
    try:
        return _relabel(ogbench_env.parse_name(name), env, rows)
    finally:
        env.close()


def _relabel(
    parts: ogbench_env.Parts, env: Any, rows: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Return rewards f32[N] and masks f32[N] of the task that `env` is set to."""
    ogbench_env.ogbench_package()
    from ogbench.relabel_utils import relabel_dataset

    states = {key: rows[key] for key in _STATES if key in rows}
    try:
        relabel_dataset(parts.env_id, env, states)
    except KeyError as error:
        raise InputError(
            f"the rewards of {parts.env_id} need {error} in the dataset's file, which lacks it"
        ) from error
    return states["rewards"], states["masks"]


def _dataset(
    name: str,
    path: pathlib.Path,
    rows: dict[str, Any],
    rewards: np.ndarray,
    masks: np.ndarray,
    note: str | None,
) -> RawDataset:
    fields = {field.name for field in dataclasses.fields(RawDataset)}
    return RawDataset(
        name=name,
        source=note or f"OGBench (Park et al. 2025), {_URL}/{path.name}",
        rewards=rewards,
        masks=masks,
        env_name=name,
        extras={"path": str(path.absolute())},
        **{key: value for key, value in rows.items() if key in fields},
    )
