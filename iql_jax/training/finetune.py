"""Offline to online: training on the dataset, then acting, storing and updating in one loop."""

import contextlib
import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from iql_jax.agents import Agent
from iql_jax.agents.optim import Metrics
from iql_jax.config import PRECISIONS, OnlineConfig, RunConfig
from iql_jax.errors import InputError
from iql_jax.report.progress import Progress
from iql_jax.training import loop, offline, online_buffer, population, session
from iql_jax.training.acting import ActingEnvironments
from iql_jax.training.checkpoint import Checkpoints
from iql_jax.training.members import Member
from iql_jax.training.online_buffer import OnlineBuffer
from iql_jax.training.population import Layout
from iql_jax.training.run_directory import RunOptions
from iql_jax.training.session import Session
from iql_jax.training.transition_log import TransitionLog

# The stream of a member's training key that actions are drawn from; 0 and 1 are population's.
_ACTING = 2


def train_finetune(
    config: RunConfig, members: list[Member], options: RunOptions, from_run: str | None = None
) -> int:
    """Pretrains, then improves every member by acting, and returns the exit status.

    Args:
      config: what to compute; `config.online` says how. `max_steps` counts environment steps.
      members: seeds, and hyper-parameters in which they differ from the configuration.
      options: how to carry it out.
      from_run: directory of an offline run whose last checkpoint replaces the pretraining.

    Raises:
      InputError: the run directory, the data, the environment or the run to start from cannot be
        used, or training is no longer finite.
    """
    assert config.online is not None
    if from_run is not None:
        online = dataclasses.replace(config.online, num_pretraining_steps=_last_update(from_run))
        config = dataclasses.replace(config, online=online)
    with session.open_session(config, members, options, from_run) as (run, states):
        _check(run)
        if from_run is not None and run.done.update == 0:
            states = _take_over(run, states, Path(from_run))
        states = offline.train(run, states)
        if not run.signals.stopped():
            states = _act_and_learn(run, states)
        return session.finish(run, states)


def _last_update(from_run: str) -> int:
    update = Checkpoints(Path(from_run) / "checkpoints", say=session.say).latest()
    if update is None:
        raise InputError(
            f"--from_run='{from_run}' holds no checkpoint; give the directory of a run of "
            "train_offline.py"
        )
    return update


def _check(run: Session) -> None:
    """Checks what finetuning needs beyond offline training.

    Raises:
      InputError: no environment, or a replay buffer too small for the dataset.
    """
    config, problem = run.setup.config, run.setup.problem
    assert config.online is not None
    if problem.env_name is None:
        raise InputError(
            f"finetuning acts in an environment, and {config.dataset_name!r} names none; give one "
            "with --env_name"
        )
    if len(problem.rows) > config.online.replay_buffer_size:
        raise InputError(
            f"replay_buffer_size is {config.online.replay_buffer_size:,}, but the dataset alone "
            f"has {len(problem.rows):,} rows; make it larger, or start with fewer by "
            "--init_dataset_size"
        )


def _take_over(run: Session, states: Any, from_run: Path) -> Any:
    """Returns the states that an offline run ended with, but its learning-rate schedule."""
    restored = Checkpoints(from_run / "checkpoints", say=session.say).restore(states)
    run.done.update = restored.update
    session.say(f"starting     from {from_run} at update {restored.update:,}")
    return restored.arrays.replace(hyper=run.setup.hyper)


@functools.partial(
    jax.jit,
    static_argnums=(0, 1, 2),
    static_argnames=("batch_size", "num_updates", "capacity", "sampling", "precision"),
    donate_argnums=(3, 4),
)
def learn_and_act(
    agent: Agent,
    config: Any,
    layout: Layout,
    states: Any,
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
) -> tuple[Any, OnlineBuffer, jax.Array, Metrics, jax.Array]:
    """Returns states, buffer, the actions f32[P, A] to take next, metrics f32[P], health i32[P].

    What lies between two environment steps, in one compiled program: every member's transition is
    stored, it is updated `num_updates` times from its replay buffer, and it acts.

    Args:
      agent: the agent's module.
      config: its static configuration.
      layout: where members live; it must split them evenly.
      states: states of P members; donated.
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

            batches = jax.vmap(fetch)(states.step, keys, buffer)  # [P, U, B, W]

        def member(one: Any, acting: Any) -> Any:
            state, key, batches, observation = one
            metrics: Metrics = {}
            broken_at = jnp.array(-1, jnp.int32)
            if num_updates:
                state, metrics, broken_at = population.run_updates(
                    agent, config, state, key, batches, lambda rows: rows
                )
            action = _explore(agent, config, state, key, observation, *acting)
            return state, action, metrics, broken_at

        lived = (states, keys, batches, observations)
        states, *rest = population.over_local_members(member, layout, lived, acting)
        return states, buffer, *rest

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


def _act_and_learn(run: Session, states: Any) -> Any:
    """Acts and learns to the last environment step or the first signal; saves and returns that."""
    setup, done, config = run.setup, run.done, run.setup.config
    online = config.online
    assert online is not None
    with contextlib.ExitStack() as stack:
        envs = stack.enter_context(
            contextlib.closing(ActingEnvironments(setup.problem, setup.seeds))
        )
        width = setup.problem.rows.shape[1]
        log = stack.enter_context(
            contextlib.closing(
                TransitionLog(setup.run_dir / "transitions.bin", len(setup.seeds), width)
            )
        )
        run.progress.close()
        run.progress = stack.enter_context(
            Progress(config.max_steps, done.env_steps, "environment steps")
        )
        return _loop(run, states, online, envs, log)


def _loop(
    run: Session, states: Any, online: OnlineConfig, envs: ActingEnvironments, log: TransitionLog
) -> Any:
    setup, done, config = run.setup, run.done, run.setup.config
    agent_config = setup.agent.for_online_training(setup.agent_config)
    programs = (setup.agent, agent_config, setup.layout)
    precision = PRECISIONS[config.precision]
    dataset, temperature, action_noise = jax.device_put(
        (
            setup.problem.rows,
            jnp.float32(online.exploration_temperature),
            jnp.float32(online.action_noise),
        ),
        setup.layout.replicated,
    )
    actions, buffer = _begin(run, states, online, envs, log)
    unread: list[tuple[Metrics, jax.Array]] = []
    saved = done.env_steps
    if done.env_steps and _evaluation_is_due(run):  # stopped between these steps and their scores
        _assess_and_save(run, states, actions, unread, online, envs, log)
    while done.env_steps < config.max_steps and not run.signals.stopped():
        rows = envs.step(actions)
        log.append(rows)
        done.env_steps += 1
        num_updates = online.updates_per_step if done.env_steps > online.warmup_steps else 0
        states, buffer, next_actions, metrics, broken_at = learn_and_act(
            *programs,
            states,
            buffer,
            setup.training_keys,
            dataset,
            (rows, envs.observations),
            np.int32(done.env_steps),
            temperature,
            action_noise,
            batch_size=config.batch_size,
            num_updates=num_updates,
            capacity=online.replay_buffer_size,
            sampling=online.sampling,
            precision=precision,
        )
        actions = np.asarray(next_actions)
        done.update += num_updates
        if num_updates:
            unread.append((metrics, broken_at))
        run.progress.advance(1)
        at_end = done.env_steps == config.max_steps
        if done.env_steps % config.log_interval == 0 or at_end:
            _write_row(run, unread, online, envs)
        if _evaluation_is_due(run) or at_end or loop.save_is_due(run):
            _assess_and_save(run, states, actions, unread, online, envs, log)
            saved = done.env_steps
    if saved != done.env_steps:
        _assess_and_save(run, states, actions, unread, online, envs, log)
    return states


def _begin(
    run: Session, states: Any, online: OnlineConfig, envs: ActingEnvironments, log: TransitionLog
) -> tuple[np.ndarray, OnlineBuffer]:
    """Returns the first actions f32[P, A], or the next ones of a continued run, and the buffer."""
    setup, done, config = run.setup, run.done, run.setup.config
    capacity = min(config.max_steps, online.replay_buffer_size)
    buffer = online_buffer.init_buffer(len(setup.seeds), capacity, setup.problem.rows.shape[1])
    if done.acting is not None:
        lived = log.restore(done.env_steps, done.acting["checksum"])
        envs.set_state(done.acting["envs"])
        actions = np.asarray(done.acting["actions"], np.float32)
        session.say(f"resumed      at environment step {done.env_steps:,}")
        return actions, online_buffer.restored(buffer, lived)
    if done.env_steps:
        raise InputError(
            f"'{setup.run_dir}' stopped while acting in {setup.problem.env_name!r}, which cannot "
            "save its state; start again in another --save_dir"
        )
    if not envs.resumable:
        session.say(
            f"warning: {setup.problem.env_name} cannot save its state: a run that stops while "
            "acting cannot be continued"
        )
    log.restore(0, 0)  # what an earlier session wrote after its last checkpoint
    actions = act_first(
        setup.agent,
        setup.agent_config,
        setup.layout,
        states,
        setup.training_keys,
        envs.observations,
        jnp.float32(online.exploration_temperature),
        jnp.float32(online.action_noise),
        precision=PRECISIONS[config.precision],
    )
    return np.asarray(actions), buffer


def _read(run: Session, unread: list[tuple[Metrics, jax.Array]], online: OnlineConfig) -> None:
    """Adds what the steps since the last reading measured to the current row of metrics."""
    for metrics, broken_at in jax.device_get(unread):
        loop.drop_broken(run, broken_at)
        loop.add_metrics(run, metrics, online.updates_per_step)
    unread.clear()


def _write_row(
    run: Session,
    unread: list[tuple[Metrics, jax.Array]],
    online: OnlineConfig,
    envs: ActingEnvironments,
) -> None:
    _read(run, unread, online)
    if run.done.num_summed:  # nothing was learned yet while warming up
        loop.write_row(run, **envs.take_finished())


def _evaluation_is_due(run: Session) -> bool:
    config, done = run.setup.config, run.done
    at_boundary = done.env_steps % config.eval_interval == 0 or done.env_steps == config.max_steps
    return done.update > 0 and at_boundary and done.assessed != done.update


def _assess_and_save(
    run: Session,
    states: Any,
    actions: np.ndarray,
    unread: list[tuple[Metrics, jax.Array]],
    online: OnlineConfig,
    envs: ActingEnvironments,
    log: TransitionLog,
) -> None:
    """Evaluates where due, then begins a checkpoint; what it stands on is safe on disk first."""
    _read(run, unread, online)
    loop.check_finite(run, states)
    score = loop.assess(run, states) if _evaluation_is_due(run) else None
    at_end = run.done.env_steps == run.setup.config.max_steps
    if not envs.resumable and not at_end and not run.signals.stopped():
        return
    checksum = log.sync()
    if envs.resumable:
        run.done.acting = {
            "envs": envs.get_state(),
            "actions": actions.tolist(),
            "checksum": checksum,
        }
    loop.save(run, states, score)
