"""Made-up transitions for measuring: speed depends on their shape alone. Needs NumPy alone."""

import numpy as np


def transitions(
    num_rows: int, observation_dim: int, action_dim: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """Returns observations, actions, rewards, masks and next_observations, f32[N, ...].

    Drawn in blocks, so that ten million rows need no more memory than their own.
    """
    generator = np.random.default_rng(seed)
    observations = np.empty((num_rows, observation_dim), np.float32)
    next_observations = np.empty_like(observations)
    actions = np.empty((num_rows, action_dim), np.float32)
    for start in range(0, num_rows, 100_000):
        block = slice(start, start + 100_000)
        shape = observations[block].shape
        observations[block] = generator.standard_normal(shape, np.float32)
        noise = generator.standard_normal(shape, np.float32)
        next_observations[block] = observations[block] + 0.1 * noise
        actions[block] = np.tanh(generator.standard_normal(actions[block].shape, np.float32))
    return {
        "observations": observations,
        "actions": actions,
        "rewards": generator.standard_normal(num_rows, np.float32),
        "masks": (generator.random(num_rows, np.float32) > 0.01).astype(np.float32),
        "next_observations": next_observations,
    }
