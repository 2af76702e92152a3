"""Offline training: chunks of compiled updates over a fixed dataset."""

import contextlib
import functools
from typing import Any

from iql_jax.config import PRECISIONS, RunConfig
from iql_jax.training import loop, session
from iql_jax.training.feed import DeviceFeed, HostFeed, map_rows, pieces_of
from iql_jax.training.loop import Chunk
from iql_jax.training.members import Member
from iql_jax.training.run_directory import RunOptions
from iql_jax.training.session import Session


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
        return session.finish(run, train(run, states))


def train(run: Session, states: Any) -> Any:
    """Trains to the last update or the first signal, saves that, and returns the states."""
    if loop.assessment_is_due(run):  # the run was stopped between this update and its scores
        loop.assess_and_save(run, states)
    with contextlib.closing(_open_feed(run)) as feed:
        return _loop(run, states, feed)


def _open_feed(run: Session) -> DeviceFeed | HostFeed:
    """Returns where batches come from, from the next update on."""
    setup = run.setup
    programs = (setup.agent, setup.agent_config, setup.layout)
    if setup.options.data_location == "device":
        return DeviceFeed(*programs, setup.training_keys, setup.problem.rows, setup.tasks)
    length = functools.partial(loop.chunk_length, setup)
    return HostFeed(
        *programs,
        setup.training_keys,
        map_rows(setup.problem.rows, setup.run_dir / "rows.npy"),
        setup.config.batch_size,
        pieces_of(run.done.update, setup.num_updates, length),
        setup.tasks,
    )


def _loop(run: Session, states: Any, feed: DeviceFeed | HostFeed) -> Any:
    setup, done, config = run.setup, run.done, run.setup.config
    update, unlogged = done.update, list[Chunk]()
    while update < setup.num_updates:
        stopped, save_is_due = loop.agree(run)
        if stopped:
            break
        num_updates = loop.chunk_length(setup, update)
        states, metrics, broken_at = feed.train(
            states, num_updates, config.batch_size, PRECISIONS[config.precision]
        )
        loop.log_chunks(run, unlogged)  # while the device works on the chunk just begun
        update += num_updates
        unlogged.append(Chunk(update, num_updates, metrics, broken_at))
        if loop.ends_interval(setup, update) or save_is_due:
            loop.log_chunks(run, unlogged, wait=True)
            if done.update == update:
                loop.assess_and_save(run, states)
    loop.log_chunks(run, unlogged, wait=True)
    # Behind where a signal has ended an evaluation beside training: that is what was saved.
    if done.update == update and run.saved != update:
        loop.assess_and_save(run, states)
    return states
