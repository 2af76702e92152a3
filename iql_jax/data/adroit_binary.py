"""D4RL's Adroit data for the tasks of finetuning: `binary/pen-cloned-v1` of `pen-cloned-v1`.

D4RL's rewards are dense, and tell whether the task was done in a step by a bonus that nothing else
adds up to. `relabel` says what becomes of them.
"""

import dataclasses
import os

import numpy as np

from iql_jax.data import d4rl
from iql_jax.data.raw import RawDataset
from iql_jax.envs.d4rl_names import BINARY_PREFIX, binary_names
from iql_jax.errors import InputError, did_you_mean

# Between the rewards of steps with the task done and without: of the pen at least 55 and at most
# 11, of the door about 20 and at most 10, of the ball at least 9 and at most 1.
_DONE_ABOVE = {"pen": 30.0, "door": 15.0, "relocate": 5.0}


def load_binary(name: str, data_dir: str | os.PathLike[str] | None = None) -> RawDataset:
    """Return the dataset `binary/TASK-KIND-vN`: D4RL's `TASK-KIND-vN`, relabelled.

    Raises:
      InputError: if the name is unknown, or the file cannot be had or read.
    """
    if name not in binary_names():
        raise InputError(f"unknown dataset '{name}'{did_you_mean(name, binary_names())}")
    bare = name.removeprefix(BINARY_PREFIX)
    return relabel(d4rl.load_d4rl(bare, data_dir), name, _DONE_ABOVE[bare.split("-")[0]])


def relabel(raw: RawDataset, name: str, done_above: float) -> RawDataset:
    """Return the transitions with reward -1, or 0 where the task is done, which ends the episode.

    Rows after that are left out. So are rows in which D4RL ended an episode without success, a pen
    that fell: what came next was not stored, and the task goes on there.

    Args:
      raw: as D4RL has it.
      name: of the new dataset, and of its environment.
      done_above: rewards above this tell that the task is done.
    """
    done = raw.rewards > done_above
    starts = np.concatenate([[0], np.flatnonzero(raw.ends[:-1]) + 1])
    before: np.ndarray = np.cumsum(done) - done  # rows done before each, over all episodes
    lengths = np.diff([*starts, len(done)])
    over = before > np.repeat(before[starts], lengths)
    keep = ~over & ~((raw.masks == 0.0) & ~done)
    if not keep.any():
        raise InputError(f"'{raw.name}' has no transition left for '{name}'")
    last = raw.ends | done | ~np.append(keep[1:], True)
    return dataclasses.replace(
        raw,
        name=name,
        source=f"{raw.source}; rewards made -1 until success, 0 and the end there, by iql_jax",
        observations=raw.observations[keep],
        actions=raw.actions[keep],
        rewards=done[keep].astype(np.float32) - 1.0,
        masks=1.0 - done[keep].astype(np.float32),
        next_observations=raw.next_observations[keep],
        ends=last[keep],
        env_name=name,
    )
