"""The replay buffer of finetuning: the shared dataset, and each member's own transitions.

It behaves as the authors' ring buffer of `capacity` rows that starts out holding the dataset: new
transitions are appended, and once it is full they replace the oldest rows, the dataset's first.
The dataset itself is stored once for all members; a slot of the ring that was written to again is
read from the member's own rows instead.
"""

from typing import Any

import jax
import jax.numpy as jnp

SAMPLINGS = ("mixed", "symmetric", "online")


def init_buffer(num_members: int, num_rows: int, width: int) -> jax.Array:
    """Returns a buffer f32[P, M, W] with room for M transitions of each member, all of it empty.

    Transition k of a member is at row k modulo M.
    """
    return jnp.zeros((num_members, num_rows, width), jnp.float32)


def insert(buffer: jax.Array, new_rows: jax.Array, number: jax.Array) -> jax.Array:
    """Returns the buffer with one more transition of each member, written in place.

    Args:
      buffer: f32[P, M, W].
      new_rows: f32[P, W].
      number: i32[], how many each member has had before.
    """
    slot = number % buffer.shape[1]
    return jax.lax.dynamic_update_slice(buffer, new_rows[:, None], (0, slot, 0))


def draw_rows(
    key: jax.Array,
    updates: jax.Array,
    num_dataset: int,
    count: jax.Array,
    *,
    batch_size: int,
    capacity: int,
    sampling: str,
) -> jax.Array:
    """Returns where the batches of K updates are, i32[K, B].

    0 or more is a row of the dataset; below, -1 - n is the member's own transition in row n.

    Args:
      key: a member's key for batches.
      updates: i32[K], the numbers of the updates.
      num_dataset: N, rows of the dataset.
      count: i32[], own transitions stored so far, at least 1.
      batch_size: B.
      capacity: of the ring.
      sampling: `mixed` draws from the whole ring, as the authors do; `symmetric` half from the
        member's own transitions and half from the dataset; `online` from its own alone.
    """
    own = jnp.minimum(count, capacity)

    def draw(update: jax.Array) -> jax.Array:
        first, second = jax.random.split(jax.random.fold_in(key, update))
        if sampling == "mixed":
            slots = jax.random.randint(
                first, (batch_size,), 0, jnp.minimum(num_dataset + count, capacity)
            )
            number = (slots - num_dataset) % capacity
            return jnp.where(number < own, -1 - number, slots)
        number = jax.random.randint(first, (batch_size,), 0, own)
        slots = jax.random.randint(second, (batch_size,), 0, num_dataset)
        online = jnp.arange(batch_size) < (
            batch_size // 2 if sampling == "symmetric" else batch_size
        )
        return jnp.where(online, -1 - number, slots)

    return jax.vmap(draw)(updates)


def fetch(rows: jax.Array, dataset: jax.Array, drawn: jax.Array) -> jax.Array:
    """Returns the batches f32[..., W] that `draw_rows` chose.

    Args:
      rows: f32[M, W], a member's own transitions.
      dataset: f32[N, W].
      drawn: what `draw_rows` returned.
    """
    # The place that is not meant is the first row: always the same, it is in the cache.
    own = rows[jnp.maximum(-1 - drawn, 0)]
    from_dataset = dataset[jnp.maximum(drawn, 0)]
    return jnp.where(drawn[..., None] < 0, own, from_dataset)


def holds_newest(drawn: jax.Array, count: jax.Array, num_rows: int) -> jax.Array:
    """Returns whether batches hold the last transition, bool[]; until it is stored they cannot be.

    Args:
      drawn: what `draw_rows` returned.
      count: i32[], own transitions, the last one included.
      num_rows: M, the buffer's rows per member.
    """
    return (drawn == -1 - (count - 1) % num_rows).any()


def restored(buffer: jax.Array, rows: Any) -> jax.Array:
    """Returns the empty buffer with the transitions f32[K, P, W] stored in it, one by one."""
    num_steps, capacity = len(rows), buffer.shape[1]
    kept = rows[max(0, num_steps - capacity) :]
    slots = jnp.arange(num_steps - len(kept), num_steps) % capacity
    return buffer.at[:, slots].set(jnp.swapaxes(jnp.asarray(kept), 0, 1))
