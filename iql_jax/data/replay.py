"""Transitions on the device: one row each, so that one gather fetches a whole batch.

A row is [observation | action | next observation | reward | mask], f32[2 O + A + 2]. Where the
dataset is that of several tasks, rewards and masks of the second and further tasks follow, so that
members trained on different ones share the rows.
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
    fields = [
        raw.observations,
        raw.actions,
        raw.next_observations,
        raw.rewards[:, None],
        raw.masks[:, None],
    ]
    if raw.outcomes is not None:
        fields += list(raw.outcomes[1:])
    out = np.empty((len(raw.rewards), sum(field.shape[1] for field in fields)), np.float32)
    start = 0
    for field in fields:
        out[:, start : start + field.shape[1]] = field
        start += field.shape[1]
    return out


def of_task(rows: jax.Array, row_width: int, task: jax.Array | None) -> jax.Array:
    """Returns rows f32[B, W] with the rewards and masks of a task.

    Args:
      rows: f32[B, W + 2 (K - 1)], of K tasks.
      row_width: W.
      task: i32[], counted from 0; None where there is one, whose rows these are.
    """
    if task is None:
        return rows
    outcome = jax.lax.dynamic_slice_in_dim(rows, row_width - 2 + 2 * task, 2, axis=1)
    rows = jnp.concatenate([rows[:, : row_width - 2], outcome], axis=1)
    # What follows is then compiled, and rounded, as it is for the rows of one task.
    return jax.lax.optimization_barrier(rows)


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
