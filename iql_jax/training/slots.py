"""The states of members one by one, as a program takes them that runs once per environment step.

Where members of a device run one after another, a program that takes their states stacked copies
each out of the stack and back into it. Over a thousand updates that is nothing; over one it is a
tenth of the time. A slot is one member of each device, and stays where it is.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from iql_jax.training import population
from iql_jax.training.population import Layout

# A program contains the update once per slot; beyond so many, compiling would take minutes.
_MOST = 4

Slots = tuple[Any, ...]


@functools.partial(jax.jit, static_argnums=0)
def split(layout: Layout, states: Any) -> Slots:
    """Returns the slots of P states, each leading with the axis of devices.

    One alone that leads with all members, where they run by `vmap` or are too many.

    Args:
      layout: where members live; it must split them evenly.
      states: leaves lead with the member axis.
    """
    local = len(jax.tree.leaves(states)[0]) // layout.mesh.size
    count = 1 if layout.vectorized or local > _MOST else local

    def on_device(states: Any, _: None) -> Slots:
        return tuple(_part(states, slot, local // count) for slot in range(count))

    return population.over_devices(on_device, layout, states, None)


@functools.partial(jax.jit, static_argnums=0)
def join(layout: Layout, slots: Slots) -> Any:
    """Returns the states that `split` took apart."""
    return population.over_devices(lambda slots, _: _concatenate(slots), layout, slots, None)


def over_slots(
    function: Callable[[Any, Any], tuple[Any, Any]],
    layout: Layout,
    slots: Slots,
    members: Any,
    shared: Any,
) -> tuple[Slots, Any]:
    """Returns the new slots of one device, and what else its members gave, stacked.

    Args:
      function: of (state, one member's arrays) and `shared`; returns the new state and the rest.
      layout: where members live.
      slots: of one device.
      members: what else leads with the axis of the device's members.
      shared: arrays that every member sees whole.
    """
    size = len(jax.tree.leaves(slots[0])[0])
    done = [
        population.over_local_members(function, layout, (state, _part(members, slot, size)), shared)
        for slot, state in enumerate(slots)
    ]
    return tuple(state for state, _ in done), _concatenate(tuple(rest for _, rest in done))


def _part(tree: Any, slot: int, size: int) -> Any:
    def part(x: jax.Array) -> jax.Array:
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):  # a slice of keys counts as their use
            data = part(jax.random.key_data(x))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
        return x[slot * size : (slot + 1) * size]

    return jax.tree.map(part, tree)


def _concatenate(trees: tuple[Any, ...]) -> Any:
    if len(trees) == 1:
        return trees[0]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *trees)
