"""What D4RL's names stand for: files, reference returns and time limits."""

import functools
import importlib.resources
import json
from collections.abc import Mapping
from typing import Any

from iql_jax.errors import InputError, did_you_mean

# Time limits of D4RL's environments, by the longest matching start of the name. They also cut the
# episodes of files that have no `timeouts`.
_MAX_EPISODE_STEPS = {
    "hopper-": 1000,
    "halfcheetah-": 1000,
    "walker2d-": 1000,
    "ant-": 1000,
    "antmaze-umaze-": 700,
    "antmaze-medium-": 1000,
    "antmaze-large-": 1000,
    "maze2d-open-": 150,
    "maze2d-umaze-": 300,
    "maze2d-eval-umaze-": 300,
    "maze2d-medium-": 600,
    "maze2d-eval-medium-": 600,
    "maze2d-large-": 800,
    "maze2d-eval-large-": 800,
    "pen-": 100,
    "hammer-": 200,
    "door-": 200,
    "relocate-": 200,
    "kitchen-": 280,
}

# Before a name of these Adroit tasks: reward -1 until the task is done.
BINARY_PREFIX = "binary/"
_BINARY_TASKS = ("pen", "door", "relocate")


@functools.cache
def datasets() -> Mapping[str, Mapping[str, Any]]:
    """Returns what is known of each D4RL dataset: `url`, reference returns; by bare name."""
    folder = importlib.resources.files("iql_jax.envs")
    return json.loads(folder.joinpath("d4rl_datasets.json").read_text())


@functools.cache
def binary_names() -> tuple[str, ...]:
    """Returns the names of Adroit's binary tasks, such as `binary/pen-cloned-v1`."""
    return tuple(BINARY_PREFIX + name for name in datasets() if name.split("-")[0] in _BINARY_TASKS)


def max_episode_steps(name: str) -> int:
    """Returns the time limit of the environment of a D4RL dataset, in steps.

    Raises:
      InputError: `name` is no D4RL dataset.
    """
    starts = [start for start in _MAX_EPISODE_STEPS if name.startswith(start)]
    if not starts:
        raise InputError(f"no time limit is known for '{name}'{did_you_mean(name, datasets())}")
    return _MAX_EPISODE_STEPS[max(starts, key=len)]
