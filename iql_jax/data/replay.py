"""Transitions on the device: one row each, so that one gather fetches a whole batch.

A row is [observation | action | next observation | reward | mask], f32[2 O + A + 2].
"""

import jax
import jax.numpy as jnp
import numpy as np

from iql_jax.data.raw import RawDataset
from iql_jax.types import Batch


def row_width(observation_dim: int, action_dim: int) -> int:
    """Returns the number of floats in a row."""
    return 2 * observation_dim + action_dim + 2


def pack(raw: RawDataset) -> np.ndarray:
    """Returns rows f32[N, W] of the transitions of a dataset, which is already transformed."""
    num_rows, observation_dim = raw.observations.shape
    width = row_width(observation_dim, raw.actions.shape[1])
    out = np.empty((num_rows, width), np.float32)
    start = 0
    for field in (
        raw.observations,
        raw.actions,
        raw.next_observations,
        raw.rewards[:, None],
        raw.masks[:, None],
    ):
        out[:, start : start + field.shape[1]] = field
        start += field.shape[1]
    return out


def unpack(rows: jax.Array, observation_dim: int, action_dim: int) -> Batch:
    """Returns the transitions of rows f32[B, W]."""
    boundaries = np.cumsum([observation_dim, action_dim, observation_dim, 1])
    observations, actions, next_observations, rewards, masks = jnp.split(rows, boundaries, axis=-1)
    return Batch(
        observations=observations,
        actions=actions,
        rewards=rewards[..., 0],
        masks=masks[..., 0],
        next_observations=next_observations,
    )
