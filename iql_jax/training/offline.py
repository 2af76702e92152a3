"""Offline training: chunks of compiled updates over a fixed dataset."""

from typing import Any

import jax
import jax.numpy as jnp

from iql_jax.config import PRECISIONS, RunConfig
from iql_jax.training import population, session
from iql_jax.training.members import Member
from iql_jax.training.run_directory import RunOptions
from iql_jax.training.session import Chunk, Session


def train_offline(config: RunConfig, members: list[Member], options: RunOptions) -> int:
    """Trains every member, writes the run directory, and returns the exit status.

    Args:
      config: what to compute.
      members: seeds, and hyper-parameters in which they differ from the configuration.
      options: how to carry it out.

    Raises:
      InputError: the run directory, the data or the environment cannot be used, or training is
        no longer finite.
    """
    with session.open_session(config, members, options) as (run, states):
        train(run, states)
        return session.finish(run)


def train(run: Session, states: Any) -> Any:
    """Trains to the last update or the first signal, saves that, and returns the states."""
    setup, done, config = run.setup, run.done, run.setup.config
    everywhere = setup.layout.replicated
    rows = jax.device_put(setup.problem.rows, everywhere)
    num_rows = jax.device_put(jnp.int32(len(setup.problem.rows)), everywhere)
    if session.evaluation_is_due(run):  # the run was stopped between this update and its scores
        session.evaluate(run, states)
    unlogged: Chunk | None = None
    saved = done.update
    while done.update < setup.num_updates and not run.signals.stopped():
        num_updates = session.chunk_length(run)
        states, metrics, broken_at = population.update_many(
            setup.agent,
            setup.agent_config,
            setup.layout,
            states,
            setup.training_keys,
            rows,
            num_rows,
            batch_size=config.batch_size,
            num_updates=num_updates,
            precision=PRECISIONS[config.precision],
        )
        if unlogged is not None:
            session.log_chunk(run, unlogged)  # while the device works on the chunk just begun
        done.update += num_updates
        unlogged = Chunk(done.update, num_updates, metrics, broken_at)
        evaluating = session.evaluation_is_due(run)
        if evaluating or session.save_is_due(run):
            session.log_chunk(run, unlogged)
            unlogged = None
            score = session.evaluate(run, states) if evaluating else None
            session.save(run, states, score)
            saved = done.update
    if unlogged is not None:
        session.log_chunk(run, unlogged)
    if saved != done.update:
        session.save(run, states)
    return states
