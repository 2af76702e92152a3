"""States go into slots and come back, whatever the devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iql_jax.training import population, slots


@pytest.mark.parametrize(("num_members", "count"), [(1, 1), (3, 3), (4, 4), (5, 1)])
def test_members_come_back_in_their_order(num_members, count):
    layout = population.choose_layout(num_members, jax.devices()[:1])
    states = {"a": jnp.arange(2.0 * num_members).reshape(num_members, 2)}
    apart = slots.split(layout, states)
    assert len(apart) == count  # beyond four compiling would take too long
    np.testing.assert_array_equal(slots.join(layout, apart)["a"], states["a"])


def test_every_member_gets_what_is_its_own():
    layout = population.choose_layout(3, jax.devices()[:1])
    keys = jax.vmap(jax.random.key)(jnp.arange(3, dtype=jnp.uint32))

    def function(member, shared):
        state, (number, key) = member
        return state + shared, (10.0 * number, jax.random.key_data(key))

    @jax.jit
    def run(states, numbers, keys):
        apart, rest = slots.over_slots(
            function, layout, slots.split(layout, states), (numbers, keys), 0.5
        )
        return slots.join(layout, apart), rest

    states, (numbers, data) = run(jnp.arange(3.0), jnp.array([1.0, 2.0, 3.0]), keys)
    np.testing.assert_array_equal(states, [0.5, 1.5, 2.5])
    np.testing.assert_array_equal(numbers, [10.0, 20.0, 30.0])
    np.testing.assert_array_equal(data, jax.random.key_data(keys))
