"""The replay buffer of finetuning: the shared dataset, and each member's own transitions.

It behaves as the authors' ring buffer of `capacity` rows that starts out holding the dataset: new
transitions are appended, and once it is full they replace the oldest rows, the dataset's first.
The dataset itself is stored once for all members; a slot of the ring that was written to again is
read from the member's own rows instead.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

SAMPLINGS = ("mixed", "symmetric", "online")


class OnlineBuffer(flax.struct.PyTreeNode):
    """Each member's own transitions.

    Attributes:
      rows: f32[P, M, W], transition k of a member at row k modulo M.
      count: i32[P], transitions stored so far; the same for all members.
    """

    rows: jax.Array
    count: jax.Array


def init_buffer(num_members: int, num_rows: int, width: int) -> OnlineBuffer:
    """Returns a buffer with room for M transitions of each member, all of it empty."""
    return OnlineBuffer(
        rows=jnp.zeros((num_members, num_rows, width), jnp.float32),
        count=jnp.zeros(num_members, jnp.int32),
    )


def insert(buffer: OnlineBuffer, new_rows: jax.Array) -> OnlineBuffer:
    """Returns the buffer with one more transition of each member, f32[P, W], written in place."""
    slot = buffer.count[0] % buffer.rows.shape[1]
    rows = jax.lax.dynamic_update_slice(buffer.rows, new_rows[:, None], (0, slot, 0))
    return OnlineBuffer(rows=rows, count=buffer.count + 1)


def draw_rows(
    key: jax.Array,
    updates: jax.Array,
    num_dataset: int,
    count: jax.Array,
    *,
    batch_size: int,
    capacity: int,
    sampling: str,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns where the batches of K updates are: dataset rows, own rows, and which of the two.

    Three arrays [K, B]: i32 row of the dataset, i32 number of the member's own transition, and
    bool, whether the latter is meant.

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

    def draw(update: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        first, second = jax.random.split(jax.random.fold_in(key, update))
        if sampling == "mixed":
            slots = jax.random.randint(
                first, (batch_size,), 0, jnp.minimum(num_dataset + count, capacity)
            )
            number = (slots - num_dataset) % capacity
            return slots, number, number < own
        number = jax.random.randint(first, (batch_size,), 0, own)
        slots = jax.random.randint(second, (batch_size,), 0, num_dataset)
        online = jnp.arange(batch_size) < (
            batch_size // 2 if sampling == "symmetric" else batch_size
        )
        return slots, number, online

    return jax.vmap(draw)(updates)


def fetch(
    rows: jax.Array, dataset: jax.Array, drawn: tuple[jax.Array, jax.Array, jax.Array]
) -> jax.Array:
    """Returns the batches f32[..., W] that `draw_rows` chose.

    Args:
      rows: f32[M, W], a member's own transitions.
      dataset: f32[N, W].
      drawn: what `draw_rows` returned.
    """
    slots, number, online = drawn
    from_dataset = dataset[jnp.minimum(slots, len(dataset) - 1)]
    own = rows[jnp.minimum(number, len(rows) - 1)]
    return jnp.where(online[..., None], own, from_dataset)


def restored(buffer: OnlineBuffer, rows: Any) -> OnlineBuffer:
    """Returns the buffer holding the transitions f32[K, P, W] that were stored one by one."""
    num_steps, capacity = len(rows), buffer.rows.shape[1]
    kept = rows[max(0, num_steps - capacity) :]
    slots = jnp.arange(num_steps - len(kept), num_steps) % capacity
    new_rows = buffer.rows.at[:, slots].set(jnp.swapaxes(jnp.asarray(kept), 0, 1))
    return OnlineBuffer(rows=new_rows, count=buffer.count + num_steps)
