"""The training program: P members, each a seed with its hyper-parameters, over one dataset.

Every random number is a function of a member's key and the number of the update, so that the
length of a chunk, evaluation and a resume cannot change training, and a member trains the same
alone as among others.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from iql_jax.agents import Agent, Hyperparameters
from iql_jax.agents.optim import Metrics
from iql_jax.data import replay
from iql_jax.training.compiling import PlatformJit

# Streams of a member's key, and of its training key.
_INIT, _TRAINING = 0, 1
_BATCHES, _UPDATES = 0, 1


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where members live: devices along one mesh axis, and how those of one device are run.

    Attributes:
      mesh: all devices, one axis "members".
      vectorized: members of one device advance together by `vmap`, which fills an accelerator;
        otherwise one after another, which is faster where one member's products fill the device.
    """

    mesh: Mesh
    vectorized: bool

    @property
    def platform(self) -> str:
        """What the devices are: "cpu", "gpu", ..."""
        return self.mesh.devices.flat[0].platform

    @property
    def replicated(self) -> Sharding:
        """The sharding of what every device holds whole: the dataset."""
        if self.mesh.size == 1:  # what `jit` returns there: any other name for it would recompile
            return SingleDeviceSharding(self.mesh.devices.item())
        return NamedSharding(self.mesh, PartitionSpec())

    def members(self, num_members: int) -> Sharding:
        """The sharding of arrays that lead with the member axis."""
        if self.mesh.size == 1 or num_members % self.mesh.size:
            return self.replicated
        return NamedSharding(self.mesh, PartitionSpec("members"))


def choose_layout(num_members: int, devices: Sequence[jax.Device] | None = None) -> Layout:
    """Returns the layout for P members over this process's devices, or over those given.

    Accelerators share the members as evenly as they go. The host's devices share its cores, so
    there an uneven split would leave cores idle, and fewer devices are used instead.
    """
    devices = list(jax.local_devices() if devices is None else devices)[:num_members]
    if devices[0].platform == "cpu":
        devices = devices[: host_devices(num_members, len(devices))]
    mesh = Mesh(np.array(devices), ("members",))
    return Layout(mesh=mesh, vectorized=devices[0].platform != "cpu")


def host_devices(num_members: int, num_cores: int) -> int:
    """Returns how many of the host's devices P members use: the most that split them evenly."""
    return max(n for n in range(1, num_cores + 1) if num_members % n == 0)


def member_keys(seeds: Sequence[int]) -> tuple[jax.Array, jax.Array]:
    """Returns each member's key for initialisation and its key for training: key[P], key[P]."""
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32))
    fold = jax.vmap(jax.random.fold_in, in_axes=(0, None))
    return fold(keys, _INIT), fold(keys, _TRAINING)


def stack_hyperparameters(members: Sequence[Hyperparameters]) -> Hyperparameters:
    """Returns the hyper-parameters of P members as leaves f32[P]."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)


def init_many(
    agent: Agent, config: Any, layout: Layout, hyper: Hyperparameters, keys: jax.Array
) -> Any:
    """Returns the states of P fresh members; every leaf leads with the member axis.

    Members are initialised one after another, so that each equals itself alone bit for bit.

    Args:
      agent: the agent's module.
      config: its static configuration.
      layout: where members live.
      hyper: leaves f32[P].
      keys: key[P].
    """
    states = _init_many(agent, config, hyper, keys)
    return jax.device_put(states, layout.members(len(keys)))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _init_many(agent: Agent, config: Any, hyper: Hyperparameters, keys: jax.Array) -> Any:
    return jax.lax.map(lambda member: agent.init(config, *member), (hyper, keys))


def batch_key(key: jax.Array) -> jax.Array:
    """Returns the key that a member's batches are drawn from, of its training key."""
    return jax.random.fold_in(key, _BATCHES)


def draw_indices(
    key: jax.Array, updates: jax.Array, num_rows: jax.Array, batch_size: int
) -> jax.Array:
    """Returns the rows of the batches of K updates: i32[K, B], drawn with replacement.

    Args:
      key: a member's key for batches.
      updates: i32[K], the numbers of the updates.
      num_rows: i32[], rows to draw from.
      batch_size: B.
    """
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, updates)
    return jax.vmap(lambda key: jax.random.randint(key, (batch_size,), 0, num_rows))(keys)


@functools.partial(
    PlatformJit,
    static_argnums=(0, 1, 2),
    static_argnames=("batch_size", "num_updates", "precision"),
    donate_argnums=3,
)
def update_many(
    agent: Agent,
    config: Any,
    layout: Layout,
    states: Any,
    keys: jax.Array,
    rows: jax.Array,
    num_rows: jax.Array,
    *,
    batch_size: int,
    num_updates: int,
    precision: str = "float32",
    tasks: jax.Array | None = None,
) -> tuple[Any, Metrics, jax.Array]:
    """Returns the states of P members after K updates each, what they measured, and their health.

    The metrics are means over the K updates, each f32[P]. Health is i32[P]: the number of the
    first update whose metrics were not all finite, or -1.

    One compiled program: the batches' rows are drawn at once, a scan runs the updates, and each
    update fetches its batch by one gather.

    Args:
      agent: the agent's module.
      config: its static configuration.
      layout: where members live.
      states: states of P members; donated.
      keys: key[P], the members' training keys.
      rows: f32[N, W], the dataset as `replay.pack` lays it out; every device holds it whole.
      num_rows: i32[], how many of the rows are filled.
      batch_size: B.
      num_updates: K.
      precision: of matrix products, a name of `jax.default_matmul_precision`.
      tasks: i32[P], each member's task, counted from 0; None where the rows are of one.
    """

    def train(
        member: tuple[Any, jax.Array, jax.Array | None], shared: tuple[jax.Array, jax.Array]
    ) -> Any:
        state, key, task = member
        rows, num_rows = shared
        updates = state.step + jnp.arange(num_updates)
        indices = draw_indices(batch_key(key), updates, num_rows, batch_size)
        return run_updates(agent, config, state, key, indices, lambda index: rows[index], task)

    with jax.default_matmul_precision(precision):
        return over_members(train, layout, (states, keys, tasks), (rows, num_rows))


@functools.partial(jax.jit, static_argnames=("batch_size", "num_updates"))
def draw_many(
    keys: jax.Array, start: jax.Array, num_rows: jax.Array, *, batch_size: int, num_updates: int
) -> jax.Array:
    """Returns the rows i32[P, K, B] that `update_many` draws from update `start` on.

    Args:
      keys: key[P], the members' training keys.
      start: i32[], the number of the first update.
      num_rows: i32[], rows to draw from.
      batch_size: B.
      num_updates: K.
    """
    updates = start + jnp.arange(num_updates)
    return jax.vmap(lambda key: draw_indices(batch_key(key), updates, num_rows, batch_size))(keys)


@functools.partial(
    PlatformJit, static_argnums=(0, 1, 2), static_argnames="precision", donate_argnums=3
)
def update_on_batches(
    agent: Agent,
    config: Any,
    layout: Layout,
    states: Any,
    keys: jax.Array,
    batches: jax.Array,
    *,
    precision: str = "float32",
    tasks: jax.Array | None = None,
) -> tuple[Any, Metrics, jax.Array]:
    """Returns what `update_many` does, on batches f32[P, K, B, W] that were fetched before.

    Args:
      agent: the agent's module.
      config: its static configuration.
      layout: where members live.
      states: states of P members; donated.
      keys: key[P], the members' training keys.
      batches: each member's rows for each of K updates.
      precision: of matrix products, a name of `jax.default_matmul_precision`.
      tasks: see `update_many`.
    """

    def train(member: tuple[Any, jax.Array, jax.Array, jax.Array | None], shared: None) -> Any:
        state, key, batches, task = member
        return run_updates(agent, config, state, key, batches, lambda rows: rows, task)

    with jax.default_matmul_precision(precision):
        return over_members(train, layout, (states, keys, batches, tasks), None)


def run_updates(
    agent: Agent,
    config: Any,
    state: Any,
    key: jax.Array,
    batches: jax.Array,
    fetch: Callable[[jax.Array], jax.Array],
    task: jax.Array | None = None,
) -> tuple[Any, Metrics, jax.Array]:
    """Returns one member's state after K updates, mean metrics f32[], and its health i32[].

    Args:
      agent: the agent's module.
      config: its static configuration.
      state: the member's state.
      key: its training key.
      batches: [K, ...], what the batch of each update is fetched by.
      fetch: from one of them to the batch's rows f32[B, W].
      task: i32[], the member's task, counted from 0; None where the rows are of one.
    """
    width = replay.row_width(config.observation_dim, config.action_dim)
    update_key = jax.random.fold_in(key, _UPDATES)

    def update(state: Any, batch: jax.Array) -> tuple[Any, Metrics]:
        rows = replay.of_task(fetch(batch), width, task)
        transitions = replay.unpack(rows, config.observation_dim, config.action_dim)
        key = jax.random.fold_in(update_key, state.step)
        return agent.update(config, state, transitions, key)

    def update_and_sum(carry: Any, batch: jax.Array) -> tuple[Any, None]:
        state, sums, broken_at = carry
        new_state, metrics = update(state, batch)
        values = jnp.stack([metrics[name] for name in names])
        finite = jnp.isfinite(values).all()
        broken_at = jnp.where((broken_at < 0) & ~finite, state.step, broken_at)
        return (new_state, sums + values, broken_at), None

    # Found by tracing one update; nothing is computed. One vector holds all the sums, since an
    # accelerator launches a program for each array.
    names = sorted(jax.eval_shape(update, state, batches[0])[1])
    start = (state, jnp.zeros(len(names)), jnp.array(-1, jnp.int32))
    if len(batches) > 1:
        (state, sums, broken_at), _ = jax.lax.scan(update_and_sum, start, batches)
    else:
        # XLA would put a loop of one pass in line, and there it copies the whole state.
        passes = jnp.where(state.step < 0, 0, 1)
        state, sums, broken_at = jax.lax.fori_loop(
            0, passes, lambda _, carry: update_and_sum(carry, batches[0])[0], start
        )
    return state, dict(zip(names, sums / len(batches), strict=True)), broken_at


def over_members(
    function: Callable[[Any, Any], Any], layout: Layout, members: Any, shared: Any
) -> Any:
    """Returns `function(member, shared)` for each of P members, stacked on a leading axis.

    Args:
      function: of one member's arrays and of the shared ones.
      layout: where members live.
      members: arrays that lead with the member axis.
      shared: arrays that every member sees whole.
    """
    return over_devices(
        lambda members, shared: over_local_members(function, layout, members, shared),
        layout,
        members,
        shared,
    )


def over_local_members(
    function: Callable[[Any, Any], Any], layout: Layout, members: Any, shared: Any
) -> Any:
    """Returns `function(member, shared)` for each member of one device.

    A population of one runs the plain function: on a CPU a `vmap` over one member costs 15%.
    """
    if jax.tree.leaves(members)[0].shape[0] == 1:
        result = function(jax.tree.map(lambda x: x[0], members), shared)
        return jax.tree.map(lambda x: x[None], result)
    if layout.vectorized:
        return jax.vmap(function, in_axes=(0, None))(members, shared)
    return jax.lax.map(lambda member: function(member, shared), members)


def over_devices(
    function: Callable[[Any, Any], Any], layout: Layout, members: Any, shared: Any
) -> Any:
    """Returns `function(members, shared)` with each device working on the members it holds."""
    if layout.mesh.size == 1:
        return function(members, shared)
    num_members = jax.tree.leaves(members)[0].shape[0]
    missing = -num_members % layout.mesh.size
    if missing:  # the last member again in the empty places, dropped below
        members = jax.tree.map(lambda x: jnp.concatenate([x] + missing * [x[-1:]]), members)
    split, whole = PartitionSpec("members"), PartitionSpec()
    on_all_devices = jax.shard_map(
        function, mesh=layout.mesh, in_specs=(split, whole), out_specs=split, check_vma=False
    )
    result = on_all_devices(members, shared)
    if missing:
        result = jax.tree.map(lambda x: x[:num_members], result)
    return jax.lax.with_sharding_constraint(result, layout.members(num_members))
