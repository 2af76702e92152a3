"""D4RL's normalised scores: 0 is a random policy, 100 the benchmark's expert."""

import numpy as np
from numpy.typing import ArrayLike

from iql_jax.envs.d4rl_names import datasets


def reference_returns(env_name: str) -> tuple[float, float] | None:
    """Returns D4RL's (random, expert) episode returns, or None where D4RL gives none.

    Args:
      env_name: a D4RL name, bare or as `d4rl/...`; any other name has no reference returns.
    """
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
