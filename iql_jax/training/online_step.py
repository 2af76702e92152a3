"""What lies between two environment steps, as compiled programs: storing, learning, acting."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from iql_jax.agents import Agent
from iql_jax.agents.optim import Metrics
from iql_jax.training import online_buffer, population, slots
from iql_jax.training.compiling import PlatformJit
from iql_jax.training.online_buffer import OnlineBuffer
from iql_jax.training.population import Layout
from iql_jax.training.slots import Slots

# The stream of a member's training key that actions are drawn from; 0 and 1 are population's.
_ACTING = 2


@functools.partial(
    PlatformJit,
    static_argnums=(0, 1, 2),
    static_argnames=("batch_size", "num_updates", "capacity", "sampling", "precision"),
    donate_argnums=(3, 4),
)
def learn_and_act(
    agent: Agent,
    config: Any,
    layout: Layout,
    states: Slots,
    buffer: OnlineBuffer,
    keys: jax.Array,
    dataset: jax.Array,
    lived: tuple[jax.Array, jax.Array],
    env_step: jax.Array,
    temperature: jax.Array,
    action_noise: jax.Array,
    *,
    batch_size: int,
    num_updates: int,
    capacity: int,
    sampling: str,
    precision: str = "float32",
) -> tuple[Slots, OnlineBuffer, jax.Array, jax.Array]:
    """Returns states, buffer, the actions to take next with the metrics, and health i32[P].

    Actions and metrics are one array f32[P, A + M], fetched at once; the metrics, M or none, are in
    the order of their names.

    What lies between two environment steps, in one compiled program: every member's transition is
    stored, it is updated `num_updates` times from its replay buffer, and it acts.

    Args:
      agent: the agent's module.
      config: its static configuration.
      layout: where members live; it must split them evenly.
      states: slots of P members; donated.
      buffer: their own transitions; donated.
      keys: key[P], the members' training keys.
      dataset: f32[N, W], the rows that all members share.
      lived: each member's last transition f32[P, W], and what it observes now, f32[P, O].
      env_step: i32[], the number of the step that the actions are for.
      temperature: f32[], scale of the policy's own noise.
      action_noise: f32[], standard deviation of noise added to the actions.
      batch_size: B.
      num_updates: U, 0 while warming up.
      capacity: rows of the ring buffer.
      sampling: see `online_buffer.draw_rows`.
      precision: of matrix products, a name of `jax.default_matmul_precision`.
    """
    draw = functools.partial(
        online_buffer.draw_rows, batch_size=batch_size, capacity=capacity, sampling=sampling
    )

    def on_device(members: Any, shared: Any) -> Any:
        states, buffer, keys, (new_rows, observations) = members
        dataset, acting = shared
        buffer = online_buffer.insert(buffer, new_rows)
        batches = None
        if num_updates:  # fetched for all members at once: a loop would copy their buffers

            def fetch(step: jax.Array, key: jax.Array, own: OnlineBuffer) -> jax.Array:
                updates = step + jnp.arange(num_updates)
                key = population.batch_key(key)
                drawn = draw(key, updates, len(dataset), own.count)
                return online_buffer.fetch(own.rows, dataset, drawn)

            steps = jnp.concatenate([state.step for state in states])
            batches = jax.vmap(fetch)(steps, keys, buffer)  # [P, U, B, W]

        def member(one: Any, acting: Any) -> Any:
            state, (key, batches, observation) = one
            metrics: Metrics = {}
            broken_at = jnp.array(-1, jnp.int32)
            if num_updates:
                state, metrics, broken_at = population.run_updates(
                    agent, config, state, key, batches, lambda rows: rows
                )
            action = _explore(agent, config, state, key, observation, *acting)
            told = jnp.concatenate([action, *(metrics[name][None] for name in sorted(metrics))])
            return state, (told, broken_at)

        others = (keys, batches, observations)
        states, (told, broken_at) = slots.over_slots(member, layout, states, others, acting)
        return states, buffer, told, broken_at

    with jax.default_matmul_precision(precision):
        return population.over_devices(
            on_device,
            layout,
            (states, buffer, keys, lived),
            (dataset, (env_step, temperature, action_noise)),
        )


def _explore(
    agent: Agent,
    config: Any,
    state: Any,
    key: jax.Array,
    observation: jax.Array,
    env_step: jax.Array,
    temperature: jax.Array,
    action_noise: jax.Array,
) -> jax.Array:
    """Returns the action f32[A] in [-1, 1] of one member at step `env_step`."""
    step_key = jax.random.fold_in(jax.random.fold_in(key, _ACTING), env_step)
    policy_key, noise_key = jax.random.split(step_key)
    action = agent.sample_actions(
        config, state, observation[None], policy_key, temperature=temperature
    )[0]
    noise = jax.random.normal(noise_key, action.shape)
    return jnp.clip(action + action_noise * noise, -1.0, 1.0)


@functools.partial(jax.jit, static_argnums=(0, 1, 2), static_argnames="precision")
def act_first(
    agent: Agent,
    config: Any,
    layout: Layout,
    states: Any,
    keys: jax.Array,
    observations: jax.Array,
    temperature: jax.Array,
    action_noise: jax.Array,
    *,
    precision: str,
) -> jax.Array:
    """Returns the actions f32[P, A] of environment step 0."""

    def member(one: Any, acting: Any) -> jax.Array:
        state, key, observation = one
        return _explore(agent, config, state, key, observation, jnp.int32(0), *acting)

    with jax.default_matmul_precision(precision):
        return population.over_members(
            member, layout, (states, keys, observations), (temperature, action_noise)
        )


def metric_names(
    agent: Agent, config: Any, states: Any, keys: jax.Array, batch: jax.ShapeDtypeStruct
) -> list[str]:
    """Returns the names of the metrics, in the order in which `learn_and_act` gives them.

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
