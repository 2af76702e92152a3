"""The replay buffer of finetuning against the ring buffer it stands for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iql_jax.training import online_buffer, online_step, population

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
    for number, row in enumerate(own):
        buffer = insert(buffer, jnp.asarray(row)[None], number)
    drawn = draw(
        jax.random.key(0),
        jnp.arange(1),
        len(dataset),
        jnp.int32(len(own)),
        batch_size=batch_size,
        capacity=capacity,
        sampling=sampling,
    )
    return np.asarray(online_buffer.fetch(buffer[0], jnp.asarray(dataset), drawn))[0]


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
    for number, rows in enumerate(lived):
        filled = online_buffer.insert(filled, jnp.asarray(rows), number)
    again = online_buffer.restored(online_buffer.init_buffer(2, 8, WIDTH), lived)
    np.testing.assert_array_equal(filled, again)


@pytest.mark.parametrize("sampling", online_buffer.SAMPLINGS)
def test_looking_ahead_tells_which_batches_hold_the_newest_transition(sampling):
    # 10 rows of data in a ring of 16: it is full after 6 steps, and goes round after 16.
    keys = jax.random.split(jax.random.key(0), 2)
    drawing = {"batch_size": 3, "capacity": 16, "sampling": sampling}
    layout = population.choose_layout(2)
    lookahead = online_step.Lookahead(layout, keys, 10, 16, num_updates=2, **drawing)
    told = [lookahead.needs_newest(100 + 2 * step, 1 + step) for step in range(40)]
    expected = []
    for step in range(40):
        own = jnp.zeros((16, 1))
        for number in range(step + 1):
            own = own.at[number % 16].set(1.0 if number == step else 0.0)
        held = []
        position = lookahead.position(100 + 2 * step, 1 + step)
        for member, key in enumerate(keys):
            updates = 100 + 2 * step + jnp.arange(2)
            drawn = draw(population.batch_key(key), updates, 10, jnp.int32(step + 1), **drawing)
            np.testing.assert_array_equal(lookahead.drawn[member, position], drawn)
            held.append(online_buffer.fetch(own, jnp.zeros((10, 1)), drawn).any())
        expected.append(bool(np.any(held)))
    assert told == expected
    assert any(told) and not all(told)


def test_looking_ahead_starts_anew_where_it_does_not_know():
    keys = jax.random.split(jax.random.key(0), 2)
    drawing = {"batch_size": 3, "capacity": 5000, "sampling": "mixed"}
    layout = population.choose_layout(2)
    lookahead = online_step.Lookahead(layout, keys, 10, 5000, num_updates=2, **drawing)
    assert [lookahead.position(100, 1), lookahead.position(104, 3)] == [0, 2]
    assert lookahead.position(104, 4) == 0  # a step without updates came between
    last = lookahead.drawn.shape[1] - 1
    assert lookahead.position(104 + 2 * last, 4 + last) == last
    assert lookahead.position(106 + 2 * last, 5 + last) == 0
