"""Adroit tasks of finetuning: -1 in every step until the task is done, which ends the episode.

`binary/pen-cloned-v1` is the hand of `pen-cloned-v1` with this reward. A pen that falls ends no
episode here: where each step costs 1, dropping it would be a way out.
"""

from typing import Any

import numpy as np

from iql_jax.envs.adroit import AdroitEnv, DoorEnv, PenEnv, RelocateEnv
from iql_jax.envs.d4rl_names import BINARY_PREFIX, binary_names
from iql_jax.errors import InputError, did_you_mean


class _UntilDone(AdroitEnv):
    """The reward and the end, whatever the task."""

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation, _, _, out_of_time, info = super().step(action)
        done = bool(info["success"])
        return observation, float(done) - 1.0, done, out_of_time and not done, {"success": done}


class BinaryPenEnv(_UntilDone, PenEnv):
    """Turn the pen as wanted, once."""


class BinaryDoorEnv(_UntilDone, DoorEnv):
    """Open the door."""


class BinaryRelocateEnv(_UntilDone, RelocateEnv):
    """Bring the ball to the point, once."""


TASKS: dict[str, type[_UntilDone]] = {
    "pen": BinaryPenEnv,
    "door": BinaryDoorEnv,
    "relocate": BinaryRelocateEnv,
}


def make_binary(name: str, render_mode: str | None = None) -> AdroitEnv:
    """Returns the environment of a name such as `binary/door-human-v1`.

    Raises:
      InputError: there is no such task.
    """
    if name not in binary_names():
        raise InputError(f"no task is called '{name}'{did_you_mean(name, binary_names())}")
    bare = name.removeprefix(BINARY_PREFIX)
    return TASKS[bare.split("-")[0]](bare, render_mode)
