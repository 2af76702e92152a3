"""What lies between two environment steps, as compiled programs: storing, learning, acting.

The update of a step need not wait for the step. Its batch is drawn from a buffer that ends with
the transition about to be made, but of a few hundred rows out of a million it hardly ever is one;
which rows they are is drawn many steps ahead. So the update runs while the environments step,
unless its batch holds that transition, and the result is the same bit for bit.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from iql_jax.agents import Agent
from iql_jax.agents.optim import Metrics
from iql_jax.training import online_buffer, population, slots
from iql_jax.training.compiling import PlatformJit
from iql_jax.training.population import Layout
from iql_jax.training.slots import Slots

# The stream of a member's training key that actions are drawn from; 0 and 1 are population's.
_ACTING = 2

# Whole numbers that go to the devices with what the environments gave: see `pack_news`.
_NUM_COUNTS = 3

# Steps that are looked ahead at once, and steps whose random keys are made at once.
_AHEAD = 1000

# Steps whose measurements stay on the devices until they are read.
_UNREAD = 1000


def pack_news(
    rows: np.ndarray, observations: np.ndarray, env_step: int, position: int, measured: int
) -> np.ndarray:
    """Returns what a step brought, and what is to be done with it: f32[P, 3 + O + W].

    All in one array, since each that goes to the devices by itself costs as much as calling a
    program; the whole numbers go as bits.

    Args:
      rows: f32[P, W], the members' last transitions.
      observations: f32[P, O], transformed, to act on.
      env_step: environment steps so far, `rows` included.
      position: where `Lookahead.drawn` has the next batches.
      measured: steps measured so far, `Measurements.num_steps`.
    """
    width = _NUM_COUNTS + observations.shape[1]
    news = np.empty((len(rows), width + rows.shape[1]), np.float32)
    news[:, :_NUM_COUNTS].view(np.int32)[:] = env_step, position, measured
    news[:, _NUM_COUNTS:width] = observations
    news[:, width:] = rows
    return news


def _insert_news(buffer: jax.Array, news: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the buffer f32[P, R, W] with the last transitions, and the numbers i32[P, 3]."""
    counts = jax.lax.bitcast_convert_type(news[:, :_NUM_COUNTS], jnp.int32)
    rows = news[:, -buffer.shape[2] :]
    return online_buffer.insert(buffer, rows, counts[0, 0] - 1), counts


@functools.partial(
    PlatformJit,
    static_argnums=(0, 1, 2),
    static_argnames="precision",
    donate_argnums=(3, 4),
)
def learn(
    agent: Agent,
    config: Any,
    layout: Layout,
    states: Slots,
    measurements: jax.Array,
    buffer: jax.Array,
    key_data: jax.Array,
    dataset: jax.Array,
    drawn: jax.Array,
    counts: jax.Array,
    *,
    precision: str = "float32",
) -> tuple[Slots, jax.Array]:
    """Updates every member once on each of the step's batches from its replay buffer.

    Returns the states, and the measurements with those of this step.

    Args:
      agent: the agent's module.
      config: its static configuration.
      layout: where members live; it must split them evenly.
      states: slots of P members; donated.
      measurements: i32[P, L, M + 1], see `Measurements`; donated.
      buffer: f32[P, R, W], their own transitions.
      key_data: u32[P, ...], of the members' training keys; a program takes keys more slowly.
      dataset: f32[N, W], the rows that all members share.
      drawn: i32[P, K, U, B], of K steps, `Lookahead.drawn`.
      counts: i32[P, 3], from `act` or `store`.
      precision: of matrix products, a name of `jax.default_matmul_precision`.
    """

    def on_device(members: Any, dataset: jax.Array) -> Any:
        states, measurements, buffer, key_data, drawn, counts = members
        keys = jax.random.wrap_key_data(key_data)
        _, position, measured_before = counts[0]
        # Fetched for all members at once: a loop would copy their buffers.
        fetch = jax.vmap(online_buffer.fetch, in_axes=(0, None, 0))
        batches = fetch(buffer, dataset, drawn[:, position])

        def member(one: Any, _: None) -> Any:
            state, (key, batches) = one
            state, metrics, broken_at = population.run_updates(
                agent, config, state, key, batches, lambda rows: rows
            )
            values = jnp.stack([metrics[name] for name in sorted(metrics)])
            bits = jax.lax.bitcast_convert_type(values, jnp.int32)
            return state, jnp.append(bits, broken_at)

        states, measured = slots.over_slots(member, layout, states, (keys, batches), None)
        measurements = jax.lax.dynamic_update_slice(
            measurements, measured[:, None], (0, measured_before % _UNREAD, 0)
        )
        return states, measurements

    with jax.default_matmul_precision(precision):
        return population.over_devices(
            on_device, layout, (states, measurements, buffer, key_data, drawn, counts), dataset
        )


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def store(layout: Layout, buffer: jax.Array, news: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the buffer with one more transition of each member, and the numbers i32[P, 3].

    Args:
      layout: where members live; it must split them evenly.
      buffer: f32[P, R, W], their own transitions; donated.
      news: see `pack_news`.
    """

    def on_device(members: tuple[jax.Array, jax.Array], _: None) -> tuple[jax.Array, jax.Array]:
        return _insert_news(*members)

    return population.over_devices(on_device, layout, (buffer, news), None)


@functools.partial(
    jax.jit,
    static_argnums=(0, 1, 2),
    static_argnames=("observation_dim", "temperature", "action_noise", "precision"),
    donate_argnums=4,
)
def act(
    agent: Agent,
    config: Any,
    layout: Layout,
    states: Slots,
    buffer: jax.Array,
    acting_keys: jax.Array,
    news: jax.Array,
    *,
    observation_dim: int,
    temperature: float,
    action_noise: float,
    precision: str = "float32",
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Stores what the members did last, and chooses what they do next.

    Returns their actions f32[P, A] in [-1, 1], to explore with, and what `store` returns.

    Args:
      agent: the agent's module.
      config: its static configuration.
      layout: where members live; it must split them evenly.
      states: slots of P members, or what `slots.Part` leaves of them.
      buffer: f32[P, R, W], their own transitions; donated.
      acting_keys: u32[P, K, 2, ...], `ActingKeys.of` the step.
      news: see `pack_news`.
      observation_dim: O.
      temperature: scale of the policy's own noise.
      action_noise: standard deviation of noise added to the actions.
      precision: of matrix products, a name of `jax.default_matmul_precision`.
    """

    def member(one: Any, _: None) -> Any:
        state, ((policy_key, noise_key), observation) = one
        action = agent.sample_actions(
            config, state, observation[None], policy_key, temperature=temperature
        )[0]
        if action_noise > 0:
            action += action_noise * jax.random.normal(noise_key, action.shape)
        return None, jnp.clip(action, -1.0, 1.0)

    def on_device(members: Any, _: None) -> tuple[jax.Array, jax.Array, jax.Array]:
        states, buffer, acting_keys, news = members
        observations = news[:, _NUM_COUNTS : _NUM_COUNTS + observation_dim]
        buffer, counts = _insert_news(buffer, news)
        keys = jax.random.wrap_key_data(acting_keys[:, counts[0, 0] % _AHEAD])
        actions = slots.over_slots(member, layout, states, (keys, observations), None)[1]
        return actions, buffer, counts

    with jax.default_matmul_precision(precision):
        return population.over_devices(on_device, layout, (states, buffer, acting_keys, news), None)


class ActingKeys:
    """The random keys that members act with, of many steps at once: one by one they are slow."""

    def __init__(self, layout: Layout, keys: jax.Array):
        """Takes where members live, and their training keys, key[P]."""
        self._make = functools.partial(_make_acting_keys, layout, keys)
        self._block: int | None = None
        self._made: jax.Array | None = None

    def of(self, env_step: int) -> jax.Array:
        """Returns u32[P, K, 2, ...], which has those of a step at its number modulo K."""
        if env_step // _AHEAD != self._block:
            self._block = env_step // _AHEAD
            self._made = self._make(np.int32(self._block))
        assert self._made is not None
        return self._made


@functools.partial(jax.jit, static_argnums=0)
def _make_acting_keys(layout: Layout, keys: jax.Array, block: jax.Array) -> jax.Array:
    """Returns for each step of a block the keys of the policy and of the noise added to it."""

    def make(key: jax.Array, env_step: jax.Array) -> jax.Array:
        step_key = jax.random.fold_in(jax.random.fold_in(key, _ACTING), env_step)
        return jax.random.key_data(jax.random.split(step_key))

    over_steps = jax.vmap(make, in_axes=(None, 0))

    def on_device(keys: jax.Array, block: jax.Array) -> jax.Array:
        env_steps = block * _AHEAD + jnp.arange(_AHEAD)
        return jax.vmap(over_steps, in_axes=(0, None))(keys, env_steps)

    return population.over_devices(on_device, layout, keys, block)


def acting_part(agent: Agent, config: Any, states: Slots) -> slots.Part:
    """Returns what takes from slots the arrays that `act` needs: those of the policy.

    Args:
      agent: the agent's module.
      config: its static configuration.
      states: slots of P members.
    """

    def choose(state: Any) -> jax.Array:
        observation = jnp.zeros((1, config.observation_dim))
        return agent.sample_actions(config, state, observation, jax.random.key(0), temperature=1.0)

    return slots.Part(choose, states)


class Measurements:
    """What steps measured and nobody has read yet.

    Attributes:
      names: of the M metrics, in their order.
      rows: i32[P, L, M + 1], on the devices, of the last L steps: the bits of the metrics f32[M],
        and the first update that was not finite, or -1.
      num_steps: how many were measured; the next one's row is that number modulo L.
    """

    def __init__(self, layout: Layout, names: list[str], num_members: int):
        """Holds nothing yet."""
        self.names = names
        rows = jnp.zeros((num_members, _UNREAD, len(names) + 1), jnp.int32)
        self.rows = jax.device_put(rows, layout.members(num_members))
        self.num_steps = 0
        self._num_read = 0

    @property
    def full(self) -> bool:
        """Whether the next step would take the place of one that nobody has read."""
        return self.num_steps - self._num_read == _UNREAD

    def add(self, rows: jax.Array) -> None:
        """Takes the rows with those of one step more."""
        self.rows = rows
        self.num_steps += 1

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the metrics f32[K, P, M] of the steps not read before, and i32[K, P]."""
        steps = np.arange(self._num_read, self.num_steps) % _UNREAD
        self._num_read = self.num_steps
        rows = np.swapaxes(np.asarray(self.rows), 0, 1)[steps]
        return rows[..., :-1].copy().view(np.float32), rows[..., -1]


class Lookahead:
    """Draws the batches of coming steps, and tells which need the transition their step makes."""

    def __init__(
        self, layout: Layout, keys: jax.Array, num_dataset: int, num_rows: int, **drawing: Any
    ):
        """Looks at nothing yet.

        Args:
          layout: where members live; it must split them evenly.
          keys: key[P], the members' training keys.
          num_dataset: N, rows of the dataset.
          num_rows: R, rows per member of their own buffer.
          **drawing: `num_updates` per step U, and of `online_buffer.draw_rows`, `batch_size`,
            `capacity` and `sampling`.
        """
        self._look = functools.partial(
            _look_ahead, layout, keys, num_dataset=num_dataset, num_rows=num_rows, **drawing
        )
        self._num_updates = drawing["num_updates"]
        self._first_update, self._first = 0, 0
        self._needs_newest: np.ndarray = np.zeros(0, bool)
        self._drawn: jax.Array | None = None

    @property
    def drawn(self) -> jax.Array:
        """What `online_buffer.draw_rows` gives, i32[P, K, U, B], of K steps; see `position`."""
        assert self._drawn is not None
        return self._drawn

    def position(self, update: int, count: int) -> int:
        """Returns where in `drawn` the batches of a step are, which may be drawn anew for it.

        Args:
          update: the number of its first update.
          count: own transitions, that of the step included.
        """
        position = count - self._first
        known = 0 <= position < len(self._needs_newest)
        if not known or update != self._first_update + position * self._num_updates:
            self._first_update, self._first, position = update, count, 0
            self._drawn, needs_newest = self._look(np.int32(update), np.int32(count))
            self._needs_newest = np.any(np.asarray(needs_newest), axis=0)
        return position

    def needs_newest(self, update: int, count: int) -> bool:
        """Returns whether any member's batches hold its own transition number `count`."""
        position = self.position(update, count)
        return bool(self._needs_newest[position])


@functools.partial(
    jax.jit,
    static_argnums=0,
    static_argnames=(
        "num_dataset",
        "num_rows",
        "num_updates",
        "batch_size",
        "capacity",
        "sampling",
    ),
)
def _look_ahead(
    layout: Layout,
    keys: jax.Array,
    update: jax.Array,
    count: jax.Array,
    *,
    num_dataset: int,
    num_rows: int,
    num_updates: int,
    **drawing: Any,
) -> tuple[jax.Array, jax.Array]:
    """Returns the draws of the steps from `count` on, and whether they hold its transition.

    The latter is bool[P, K].
    """

    def look(step: jax.Array, key: jax.Array, update: jax.Array, count: jax.Array) -> Any:
        updates = update + step * num_updates + jnp.arange(num_updates)
        drawn = online_buffer.draw_rows(
            population.batch_key(key), updates, num_dataset, count + step, **drawing
        )
        return drawn, online_buffer.holds_newest(drawn, count + step, num_rows)

    over_steps = jax.vmap(look, in_axes=(0, None, None, None))

    def on_device(keys: jax.Array, shared: Any) -> Any:
        # Member by member, which bounds the memory.
        return jax.lax.map(lambda key: over_steps(jnp.arange(_AHEAD), key, *shared), keys)

    return population.over_devices(on_device, layout, keys, (update, count))


def metric_names(
    agent: Agent, config: Any, states: Any, keys: jax.Array, batch: jax.ShapeDtypeStruct
) -> list[str]:
    """Returns the names of the metrics, in the order in which `learn` gives them.

    Args:
      agent: the agent's module.
      config: its static configuration.
      states: states of P members, stacked.
      keys: key[P], the members' training keys.
      batch: f32[B, W], what a batch is like.
    """

    def measure(states: Any, keys: jax.Array, batch: jax.Array) -> Metrics:
        state, key = jax.tree.map(lambda x: x[0], (states, keys))
        return population.run_updates(agent, config, state, key, batch[None], lambda rows: rows)[1]

    return sorted(jax.eval_shape(measure, states, keys, batch))
