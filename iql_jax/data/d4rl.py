"""D4RL's datasets: names, files, and the transitions its users train on."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from iql_jax.data import reader
from iql_jax.data.raw import RawDataset, row_chunks
from iql_jax.envs.d4rl_names import datasets, max_episode_steps
from iql_jax.errors import InputError, did_you_mean

_PREFIX = "d4rl/"
_WITHOUT_DOWNLOAD = "python train_offline.py --env_name=generated/antmaze-medium-play-v0"


def data_folder(data_dir: str | os.PathLike[str] | None = None) -> pathlib.Path:
    """Return the folder of D4RL's files: `data_dir`, `$D4RL_DATASET_DIR` or D4RL's own."""
    chosen = data_dir or os.environ.get("D4RL_DATASET_DIR") or "~/.d4rl/datasets"
    return pathlib.Path(chosen).expanduser()


def load_d4rl(name: str, data_dir: str | os.PathLike[str] | None = None) -> RawDataset:
    """Return the D4RL dataset `name` (bare or `d4rl/...`), downloading its file if it is not here.

    Raises:
      InputError: if the name is unknown, or the file cannot be had or read.
    """
    bare = name.removeprefix(_PREFIX)
    if bare not in datasets():
        raise InputError(f"unknown D4RL dataset '{bare}'{did_you_mean(bare, datasets())}")
    url = datasets()[bare]["url"]
    path = data_folder(data_dir) / url.rsplit("/", 1)[-1]
    if not path.is_file():
        _download(_PREFIX + bare, url, path)
    raw = read_dataset(
        path,
        name=_PREFIX + bare,
        source=f"D4RL (Fu et al. 2020), {url}",
        env_name=bare,
        max_episode_steps=max_episode_steps(bare),
    )
    # D4RL's environments act on actions clipped to [-1, 1], and the authors clip the stored ones.
    np.clip(raw.actions, -1.0, 1.0, out=raw.actions)
    return raw


def _download(name: str, url: str, path: pathlib.Path) -> None:
    from iql_jax.data import download

    try:
        download.download(url, path, check=download.check_hdf5)
    except (download.DownloadError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"'{name}' needs the file '{path.name}', looked for in '{path.parent}'; downloading "
            f"{url} failed: {reason}. Put the file into that folder by hand (or name another "
            "folder with D4RL_DATASET_DIR), or run without a download: " + _WITHOUT_DOWNLOAD
        ) from error


def read_dataset(
    path: pathlib.Path,
    *,
    name: str,
    source: str,
    env_name: str | None,
    max_episode_steps: int | None,
    extras: Mapping[str, Any] | None = None,
) -> RawDataset:
    """Return the transitions of a file in D4RL's layout by D4RL's own rules.

    That is `qlearning_dataset` and then the authors' masks and episode ends. A file's
    `next_observations` are not used, as D4RL does not use them.

    Args:
      path: the file.
      name: the dataset's name, for `RawDataset.name`.
      source: one line on what made the data.
      env_name: the environment for evaluation, if there is one.
      max_episode_steps: where episodes end in a file without `timeouts`; None: at terminals only.
      extras: for `RawDataset.extras`.

    Raises:
      InputError: naming the file, the key, the row and the reason.
    """
    arrays = reader.read_arrays(path, optional=("timeouts",))
    transitions = qlearning_dataset(arrays, max_episode_steps)
    rows = len(arrays["rewards"])
    del arrays
    if not len(transitions["rewards"]):
        raise InputError(
            f"{path}: none of its {rows} rows makes a transition: the last row and the rows of "
            "'timeouts' have no next observation; store longer episodes"
        )
    return RawDataset(
        name=name,
        source=source,
        observations=transitions["observations"],
        actions=transitions["actions"],
        rewards=transitions["rewards"],
        masks=1.0 - transitions["terminals"].astype(np.float32),
        next_observations=transitions["next_observations"],
        ends=episode_ends(
            transitions["observations"],
            transitions["next_observations"],
            transitions["terminals"],
        ),
        env_name=env_name,
        extras=dict(extras or {}),
    )


def qlearning_dataset(
    arrays: Mapping[str, np.ndarray],
    max_episode_steps: int | None = None,
    terminate_on_end: bool = False,
) -> dict[str, np.ndarray]:
    """Return D4RL's `qlearning_dataset` of M <= N - 1 transitions, exactly, without a loop.

    The next observation is the next row, even after a terminal (where the mask hides it). Rows at
    a time limit, which have no next observation, are dropped, and the very last row too.

    Args:
      arrays: `observations` [N, O], `actions` [N, A], `rewards` [N], `terminals` [N] and, if the
        file has them, `timeouts` [N].
      max_episode_steps: without `timeouts`, rows are counted and the time limit assumed after so
        many; None: no time limit.
      terminate_on_end: keep the rows at a time limit, as D4RL does under this name.

    Returns:
      `observations` f32[M, O], `actions` f32[M, A], `next_observations` f32[M, O], `rewards`
      f32[M], `terminals` bool[M]. Where no row is dropped they are views of the arrays given.
    """
    terminals = np.asarray(arrays["terminals"], np.bool_).reshape(-1)
    if terminate_on_end:
        final = np.zeros(len(terminals), np.bool_)
    elif "timeouts" in arrays:
        final = np.asarray(arrays["timeouts"], np.bool_).reshape(-1)
    elif max_episode_steps is None:
        final = np.zeros(len(terminals), np.bool_)
    else:
        final = _counted_time_limits(terminals, max_episode_steps)
    keep = ~final[:-1]

    def select(array: np.ndarray, offset: int = 0) -> np.ndarray:
        rows = np.asarray(array[offset : len(array) - 1 + offset], np.float32)
        return rows if keep.all() else rows[keep]

    return {
        "observations": select(arrays["observations"]),
        "actions": select(arrays["actions"]),
        "next_observations": select(arrays["observations"], offset=1),
        "rewards": select(np.asarray(arrays["rewards"]).reshape(-1)),
        "terminals": terminals[:-1] if keep.all() else terminals[:-1][keep],
    }


def _counted_time_limits(terminals: np.ndarray, limit: int) -> np.ndarray:
    """Return bool[N], the rows that D4RL's step counter takes for a time limit.

    The counter c grows by one each row and a row with c = limit - 1 is at the limit: it is dropped
    and c restarts at 0. A kept terminal row restarts c at 1, because D4RL adds the step after it
    has set the counter to zero. So between terminals the counter is known, modulo `limit`, from
    its value at the start of the segment, which is 0 or 1 and depends on the segment before.
    """
    rows = len(terminals)
    if rows == 0 or limit <= 1:
        return np.ones(rows, np.bool_)
    ends = np.flatnonzero(terminals)
    begins = np.concatenate([[0], ends + 1])
    # The next segment starts at 0 if the terminal row itself is at the limit, else at 1. From a
    # start of 0 that needs `last` = limit - 1, from a start of 1 limit - 2; hence as a function
    # of its own start a segment hands on: always 1, or the start, or its opposite.
    last = (ends - begins[:-1]) % limit
    opposite = last == limit - 2
    constant = ~opposite & (last != limit - 1)
    flips = np.cumsum(opposite)
    index = np.arange(len(ends))
    since = np.maximum.accumulate(np.where(constant, index, -1))
    anchor = np.where(since >= 0, 1, 0)  # the value that the flips since then act on
    flips_since = flips - np.where(since >= 0, flips[since], 0)
    starts = np.concatenate([[0], (anchor + flips_since) % 2])
    lengths = np.diff(np.concatenate([begins, [rows]]))
    counter = np.arange(rows) + np.repeat(starts - begins, lengths)
    return counter % limit == limit - 1


def episode_ends(
    observations: np.ndarray, next_observations: np.ndarray, terminals: np.ndarray
) -> np.ndarray:
    """Return bool[N]: the last row of each episode or fragment of one, by the authors' rule.

    An episode ends at a terminal, where the next stored observation is farther than 1e-6 from
    `next_observations`, and at the last row.
    """
    ends = np.array(terminals, np.bool_)
    if not len(ends):
        return ends
    ends[-1] = True
    following, claimed, jumped = observations[1:], next_observations[:-1], ends[:-1]
    for rows in row_chunks(following):
        gap = following[rows] - claimed[rows]
        jumped[rows] |= np.sqrt(np.einsum("no,no->n", gap, gap)) > 1e-6
    return ends
