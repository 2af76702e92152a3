"""The states of members one by one, as a program takes them that runs once per environment step.

Where members of a device run one after another, a program that takes their states stacked copies
each out of the stack and back into it. Over a thousand updates that is nothing; over one it is a
tenth of the time. A slot is one member of each device, and stays where it is.

For the same reason a slot keeps biases, scalars and the like together, in one array per type: every
array that goes in and out of a program costs microseconds, and an agent has a hundred.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from iql_jax.training import population
from iql_jax.training.population import Layout

# A program contains the update once per slot; beyond so many, compiling would take minutes.
_MOST = 4

# Leaves of at most so many numbers per member are kept together.
_SMALL = 4096


class _Form:
    """What the state in a slot looks like. Equal to itself alone, which is found out at once.

    Attributes:
      tree: its structure.
      leaves: their shapes, without the leading axis, and types.
      left_out: numbers of the large ones that the slot has not; they are None in the state.
    """

    def __init__(self, tree: Any, leaves: list[jax.ShapeDtypeStruct], left_out: frozenset[int]):
        self.tree, self.leaves, self.left_out = tree, leaves, left_out

    @classmethod
    def of(cls, state: Any) -> "_Form":
        """Returns the form of a state whose leaves lead with one axis more."""
        leaves, tree = jax.tree.flatten(state)
        shapes = [jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype) for leaf in leaves]
        return cls(tree, shapes, frozenset())


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["large", "small"], meta_fields=["form"]
)
@dataclasses.dataclass(frozen=True)
class Slot:
    """A state whose small leaves are kept together; all lead with the axis of its members.

    Attributes:
      large: the leaves of more than `_SMALL` numbers per member, in their order.
      small: by type, the others one after another: [L, n].
      form: what it was.
    """

    large: list[jax.Array]
    small: dict[str, jax.Array]
    form: _Form


Slots = tuple[Slot, ...]


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
    form = _Form.of(states)

    def on_device(states: Any, _: None) -> Slots:
        parts = (_part(states, slot, local // count) for slot in range(count))
        return tuple(_pack(part, form) for part in parts)

    return population.over_devices(on_device, layout, states, None)


@functools.partial(jax.jit, static_argnums=0)
def join(layout: Layout, slots: Slots) -> Any:
    """Returns the states that `split` took apart."""

    def on_device(slots: Slots, _: None) -> Any:
        return _concatenate(tuple(_unpack(slot) for slot in slots))

    return population.over_devices(on_device, layout, slots, None)


class Part:
    """Takes from slots what a function of the states needs: calls with fewer arrays cost less."""

    def __init__(self, function: Callable[[Any], Any], slots: Slots):
        """Finds out what the function of one member's state uses, without computing it."""
        form = slots[0].form
        jaxpr = jax.make_jaxpr(lambda leaves: function(jax.tree.unflatten(form.tree, leaves)))(
            form.leaves
        ).jaxpr
        used = {id(x) for equation in jaxpr.eqns for x in equation.invars}
        used |= {id(x) for x in jaxpr.outvars}
        numbers = [n for n, leaf in enumerate(form.leaves) if not _is_small(leaf)]
        kept = [place for place, n in enumerate(numbers) if id(jaxpr.invars[n]) in used]
        left_out = frozenset(numbers) - {numbers[place] for place in kept}
        self._kept, self._form = kept, _Form(form.tree, form.leaves, left_out)

    def __call__(self, slots: Slots) -> Slots:
        """Returns the slots without the other large leaves."""
        return tuple(
            Slot([slot.large[place] for place in self._kept], slot.small, self._form)
            for slot in slots
        )


def over_slots(
    function: Callable[[Any, Any], tuple[Any, Any]],
    layout: Layout,
    slots: Slots,
    members: Any,
    shared: Any,
) -> tuple[Slots, Any]:
    """Returns the new slots of one device, and what else its members gave, stacked.

    Args:
      function: of (state, one member's arrays) and `shared`; returns the new state, or None where
        it stays as it is, and the rest.
      layout: where members live.
      slots: of one device.
      members: what else leads with the axis of the device's members.
      shared: arrays that every member sees whole.
    """
    new_slots, rests = [], []
    for number, slot in enumerate(slots):
        state = _unpack(slot)
        own = _part(members, number, len(jax.tree.leaves(state)[0]))
        state, rest = population.over_local_members(function, layout, (state, own), shared)
        new_slots.append(slot if state is None else _pack(state, slot.form))
        rests.append(rest)
    return tuple(new_slots), _concatenate(tuple(rests))


def _is_small(leaf: jax.ShapeDtypeStruct) -> bool:
    return leaf.size <= _SMALL


def _pack(state: Any, form: _Form) -> Slot:
    leaves = list(zip(jax.tree.leaves(state), form.leaves, strict=True))
    small: dict[str, list[jax.Array]] = {}
    for x, leaf in leaves:
        if _is_small(leaf):
            small.setdefault(str(leaf.dtype), []).append(x.reshape(len(x), leaf.size))
    return Slot(
        large=[x for x, leaf in leaves if not _is_small(leaf)],
        small={dtype: jnp.concatenate(flat, axis=1) for dtype, flat in small.items()},
        form=form,
    )


def _unpack(slot: Slot) -> Any:
    large, begin = iter(slot.large), dict.fromkeys(slot.small, 0)
    leaves: list[jax.Array | None] = []
    for number, leaf in enumerate(slot.form.leaves):
        if number in slot.form.left_out:
            leaves.append(None)
        elif _is_small(leaf):
            dtype = str(leaf.dtype)
            end = begin[dtype] + leaf.size
            flat = slot.small[dtype][:, begin[dtype] : end]
            leaves.append(flat.reshape(len(flat), *leaf.shape))
            begin[dtype] = end
        else:
            leaves.append(next(large))
    return jax.tree.unflatten(slot.form.tree, leaves)


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
