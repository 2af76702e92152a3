"""The replay buffer of finetuning against the ring buffer it stands for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iql_jax.training import online_buffer

WIDTH = 3
draw = jax.jit(
    online_buffer.draw_rows,
    static_argnums=2,
    static_argnames=("batch_size", "capacity", "sampling"),
)


def ring(dataset, own, capacity):
    """The rows of a plain ring buffer of `capacity` after the dataset and then `own` went in."""
    rows = {}
    for position, row in enumerate([*dataset, *own]):
        rows[position % capacity] = row
    return {tuple(row) for row in rows.values()}


def drawn_rows(dataset, own, capacity, num_rows, sampling="mixed", batch_size=4000):
    buffer = online_buffer.init_buffer(1, num_rows, WIDTH)
    insert = jax.jit(online_buffer.insert, donate_argnums=0)
    for row in own:
        buffer = insert(buffer, jnp.asarray(row)[None])
    drawn = draw(
        jax.random.key(0),
        jnp.arange(1),
        len(dataset),
        buffer.count[0],
        batch_size=batch_size,
        capacity=capacity,
        sampling=sampling,
    )
    return np.asarray(online_buffer.fetch(buffer.rows[0], jnp.asarray(dataset), drawn))[0]


def numbered(start, count):
    return np.arange(start, start + count, dtype=np.float32)[:, None] * np.ones(
        (1, WIDTH), np.float32
    )


@pytest.mark.parametrize("num_own", [1, 5, 6, 9, 16, 20])
def test_mixed_draws_what_a_ring_buffer_holds(num_own):
    # 10 rows of data in a ring of 16: own rows replace the oldest from the seventh on.
    dataset, own, capacity = numbered(0, 10), numbered(100, num_own), 16
    rows = drawn_rows(dataset, own, capacity, num_rows=min(20, capacity))
    assert {tuple(row) for row in rows} == ring(dataset, own, capacity)
    # Every row is as likely as every other.
    counts = np.unique(rows[:, 0], return_counts=True)[1]
    assert counts.max() < 1.5 * counts.min()


def test_symmetric_draws_half_of_each_and_online_drops_the_dataset():
    dataset, own = numbered(0, 10), numbered(100, 3)
    rows = drawn_rows(dataset, own, 100, 20, "symmetric", batch_size=1000)
    assert (rows[:500, 0] >= 100).all() and (rows[500:, 0] < 10).all()
    assert len(np.unique(rows[:, 0])) == 13
    rows = drawn_rows(dataset, own, 100, 20, "online")
    assert set(rows[:, 0]) == {100, 101, 102}


@pytest.mark.parametrize("num_steps", [0, 3, 8, 13])
def test_a_restored_buffer_is_the_one_that_was_filled(num_steps):
    lived = np.random.default_rng(0).normal(size=(num_steps, 2, WIDTH)).astype(np.float32)
    filled = online_buffer.init_buffer(2, 8, WIDTH)
    for rows in lived:
        filled = online_buffer.insert(filled, jnp.asarray(rows))
    again = online_buffer.restored(online_buffer.init_buffer(2, 8, WIDTH), lived)
    np.testing.assert_array_equal(filled.rows, again.rows)
    np.testing.assert_array_equal(filled.count, again.count)
