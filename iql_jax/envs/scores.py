"""Normalised scores, D4RL's and Minari's: 0 is a random policy, 100 the benchmark's expert."""

import numpy as np
from numpy.typing import ArrayLike

from iql_jax.envs import minari_env
from iql_jax.envs.d4rl_names import datasets


def reference_returns(env_name: str) -> tuple[float, float] | None:
    """Returns the benchmark's (random, expert) episode returns, or None where it gives none.

    Args:
      env_name: a D4RL name, bare or as `d4rl/...`, or `minari/...` where the dataset, on this
        machine, brings them along; any other name has no reference returns.
    """
    if env_name.startswith(minari_env.PREFIX):
        return minari_env.reference_returns(env_name)
    entry = datasets().get(env_name.removeprefix("d4rl/"), {})
    if "min_return" not in entry:
        return None
    return entry["min_return"], entry["max_return"]


def normalized_score(env_name: str, returns: ArrayLike) -> np.ndarray | None:
    """Returns 100 * (return - random) / (expert - random), f64 in the shape of `returns`.

    None where there are no reference returns: a maze is then scored by its success rate, other
    tasks by the return itself.
    """
    reference = reference_returns(env_name)
    if reference is None:
        return None
    low, high = reference
    return 100.0 * (np.asarray(returns, np.float64) - low) / (high - low)
