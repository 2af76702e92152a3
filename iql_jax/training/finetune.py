"""Offline to online: training on the dataset, then acting, storing and updating in one loop."""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from iql_jax.config import PRECISIONS, OnlineConfig, RunConfig
from iql_jax.errors import InputError
from iql_jax.report.progress import Progress
from iql_jax.training import loop, offline, online_buffer, online_step, session, slots
from iql_jax.training.acting import ActingEnvironments
from iql_jax.training.checkpoint import Checkpoints
from iql_jax.training.compiling import CompiledOnce
from iql_jax.training.members import Member
from iql_jax.training.online_step import Measurements
from iql_jax.training.run_directory import RunOptions
from iql_jax.training.session import Session
from iql_jax.training.transition_log import TransitionLog


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
    dataset = jax.device_put(setup.problem.rows, setup.layout.replicated)
    drawing = {
        "num_updates": online.updates_per_step,
        "batch_size": config.batch_size,
        "capacity": online.replay_buffer_size,
        "sampling": online.sampling,
    }
    continued, buffer = _begin(run, online, envs, log)
    lookahead = online_step.Lookahead(
        setup.layout, setup.training_keys, len(dataset), buffer.shape[1], **drawing
    )
    measurements = online_step.Measurements(
        setup.layout, _metric_names(run, agent_config, states), len(setup.seeds)
    )
    saved = done.env_steps
    if done.env_steps and _evaluation_is_due(run):  # stopped between these steps and their scores
        assert continued is not None
        _assess_and_save(run, states, continued, measurements, online, envs, log)
    members = slots.split(setup.layout, states)
    del states  # their buffers are given away
    key_data = jax.random.key_data(setup.training_keys)
    acting_keys = online_step.ActingKeys(setup.layout, setup.training_keys)
    policies = online_step.acting_part(setup.agent, agent_config, members)
    act_program = CompiledOnce(
        online_step.act,
        *programs,
        observation_dim=envs.observations.shape[1],
        temperature=online.exploration_temperature,
        action_noise=online.action_noise,
        precision=precision,
    )
    learn_program = CompiledOnce(online_step.learn, *programs, precision=precision)
    counts: jax.Array | None = None  # see `store`; None where nothing was stored in this session

    def learns() -> bool:
        return done.env_steps >= online.warmup_steps

    def news(rows: np.ndarray, count: int) -> np.ndarray:
        position = lookahead.position(done.update, count) if learns() else 0
        return online_step.pack_news(
            rows, envs.observations, done.env_steps, position, measurements.num_steps
        )

    def store(rows: np.ndarray) -> None:
        nonlocal buffer, counts
        buffer, counts = online_step.store(setup.layout, buffer, news(rows, done.env_steps))

    def act(rows: np.ndarray) -> jax.Array:
        nonlocal buffer, counts
        actions, buffer, counts = act_program(
            policies(members),
            buffer,
            acting_keys.of(done.env_steps),
            news(rows, done.env_steps + 1),
        )
        return actions

    def learn() -> None:
        nonlocal members
        if measurements.full:
            _read(run, measurements, online)
        members, measured = learn_program(
            members, measurements.rows, buffer, key_data, dataset, lookahead.drawn, counts
        )
        measurements.add(measured)

    actions: jax.Array | np.ndarray
    if continued is None:  # nothing is stored: the buffer is empty there, too
        actions = act(np.zeros((len(setup.seeds), dataset.shape[1]), np.float32))
        counts = None
    else:
        actions = continued
    while done.env_steps < config.max_steps and not run.signals.stopped():
        learns_now, learned = learns(), False
        newest = done.env_steps + 1
        if learns_now and counts is not None and not lookahead.needs_newest(done.update, newest):
            learn()  # goes on while the environments step
            learned = True
        rows = envs.step(np.asarray(actions))
        done.env_steps += 1
        if learns_now and not learned:
            store(rows)
            learn()
        if learns_now:
            done.update += online.updates_per_step
        actions = act(rows)
        log.append(rows)
        run.progress.advance(1)
        at_end = done.env_steps == config.max_steps
        if done.env_steps % config.log_interval == 0 or at_end:
            _write_row(run, measurements, online, envs)
        if _evaluation_is_due(run) or at_end or loop.save_is_due(run):
            states = slots.join(setup.layout, members)
            _assess_and_save(run, states, actions, measurements, online, envs, log)
            saved = done.env_steps
    states = slots.join(setup.layout, members)
    if saved != done.env_steps:
        _assess_and_save(run, states, actions, measurements, online, envs, log)
    return states


def _begin(
    run: Session, online: OnlineConfig, envs: ActingEnvironments, log: TransitionLog
) -> tuple[np.ndarray | None, jax.Array]:
    """Returns the next actions f32[P, A] of a continued run, or None, and the buffer."""
    setup, done, config = run.setup, run.done, run.setup.config
    num_rows = min(config.max_steps, online.replay_buffer_size)
    sharding = setup.layout.members(len(setup.seeds))
    buffer = online_buffer.init_buffer(len(setup.seeds), num_rows, setup.problem.rows.shape[1])
    if done.acting is not None:
        lived = log.restore(done.env_steps, done.acting["checksum"])
        envs.set_state(done.acting["envs"])
        actions = np.asarray(done.acting["actions"], np.float32)
        session.say(f"resumed      at environment step {done.env_steps:,}")
        return actions, jax.device_put(online_buffer.restored(buffer, lived), sharding)
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
    return None, jax.device_put(buffer, sharding)


def _metric_names(run: Session, agent_config: Any, states: Any) -> list[str]:
    setup = run.setup
    batch = (setup.config.batch_size, setup.problem.rows.shape[1])
    return online_step.metric_names(
        setup.agent,
        agent_config,
        states,
        setup.training_keys,
        jax.ShapeDtypeStruct(batch, jnp.float32),
    )


def _read(run: Session, measurements: Measurements, online: OnlineConfig) -> None:
    """Adds what the steps since the last reading measured to the current row of metrics."""
    measured, broken_at = measurements.read()
    if not len(measured):
        return
    first = np.argmax(broken_at >= 0, axis=0)
    loop.drop_broken(run, np.take_along_axis(broken_at, first[None], axis=0)[0])
    done = run.done
    sums = online.updates_per_step * measured.astype(np.float64)
    for name, values in zip(measurements.names, np.moveaxis(sums, 2, 0), strict=True):
        # One after another, so that the moment of reading changes no bit.
        before = np.broadcast_to(done.sums.get(name, 0.0), values[:1].shape)
        done.sums[name] = np.cumsum(np.concatenate([before, values]), axis=0)[-1].tolist()
    done.num_summed += online.updates_per_step * len(sums)


def _write_row(
    run: Session,
    measurements: Measurements,
    online: OnlineConfig,
    envs: ActingEnvironments,
) -> None:
    _read(run, measurements, online)
    if run.done.num_summed:  # nothing was learned yet while warming up
        loop.write_row(run, **envs.take_finished())


def _evaluation_is_due(run: Session) -> bool:
    config, done = run.setup.config, run.done
    at_boundary = done.env_steps % config.eval_interval == 0 or done.env_steps == config.max_steps
    return done.update > 0 and at_boundary and done.assessed != done.update


def _assess_and_save(
    run: Session,
    states: Any,
    actions: jax.Array | np.ndarray,
    measurements: Measurements,
    online: OnlineConfig,
    envs: ActingEnvironments,
    log: TransitionLog,
) -> None:
    """Evaluates where due, then begins a checkpoint; what it stands on is safe on disk first."""
    _read(run, measurements, online)
    loop.check_finite(run, states)
    score = loop.assess(run, states) if _evaluation_is_due(run) else None
    at_end = run.done.env_steps == run.setup.config.max_steps
    if not envs.resumable and not at_end and not run.signals.stopped():
        return
    checksum = log.sync()
    if envs.resumable:
        run.done.acting = {
            "envs": envs.get_state(),
            "actions": np.asarray(actions).tolist(),
            "checksum": checksum,
        }
    loop.save(run, states, score)
