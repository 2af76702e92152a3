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


def test_small_leaves_travel_together_and_come_back_as_they_were():
    layout = population.choose_layout(2, jax.devices()[:1])
    shapes = {"a": (2, 80, 80), "b": (2, 3), "c": (2,), "d": (2, 4097), "e": (2, 2, 2), "f": (2, 0)}
    states = {
        name: jnp.arange(np.prod(shape))
        .reshape(shape)
        .astype("int32" if name in "ce" else "float32")
        for name, shape in shapes.items()
    }
    apart = slots.split(layout, states)
    assert len(apart) == 2
    for slot in apart:
        assert [x.shape for x in slot.large] == [(1, 80, 80), (1, 4097)]
        assert {name: x.shape for name, x in slot.small.items()} == {
            "float32": (1, 3),
            "int32": (1, 5),
        }
    again = slots.join(layout, apart)
    assert jax.tree.structure(again) == jax.tree.structure(states)
    for name, value in states.items():
        assert again[name].dtype == value.dtype
        np.testing.assert_array_equal(again[name], value)


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


def test_a_part_has_what_a_function_uses_and_nothing_else_that_is_large():
    layout = population.choose_layout(3, jax.devices()[:1])
    states = {
        "used": jnp.arange(3.0 * 5000).reshape(3, 5000),
        "unused": jnp.ones((3, 5000)),
        "bias": jnp.arange(3.0),
    }

    def function(state):
        return jnp.sum(state["used"][:2]) + state["bias"]

    whole = slots.split(layout, states)
    part = slots.Part(function, whole)(whole)
    assert [[x.shape for x in slot.large] for slot in part] == 3 * [[(1, 5000)]]

    def member(one, shared):
        state, _ = one
        assert state["unused"] is None
        return None, function(state)

    kept, sums = jax.jit(lambda part: slots.over_slots(member, layout, part, jnp.arange(3), None))(
        part
    )
    np.testing.assert_array_equal(sums, [1.0, 10002.0, 20003.0])
    np.testing.assert_array_equal(kept[2].large[0], part[2].large[0])
