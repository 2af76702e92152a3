"""What every training loop does between its calls of the compiled program."""

import dataclasses
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from iql_jax.errors import InputError
from iql_jax.training import maze_view
from iql_jax.training.beside import Pending
from iql_jax.training.evaluation import Evaluation, join_evaluations
from iql_jax.training.feed import PIECE
from iql_jax.training.session import Session, Setup

# Longest call of the compiled program, in member-updates of a CPU: Ctrl-C is heard between calls.
_CHUNK = 1000
# What agents call adv is an abbreviation there only.
_HISTOGRAM_NAMES = {"adv": "advantage"}


class Chunk(NamedTuple):
    """What a call of `update_many` measured, still on the device.

    Attributes:
      update: updates done after it.
      num_updates: how many it did.
      metrics: means over them, each f32[P].
      broken_at: i32[P], the first update that was not finite, or -1.
    """

    update: int
    num_updates: int
    metrics: dict[str, jax.Array]
    broken_at: jax.Array


def chunk_length(setup: Setup, update: int) -> int:
    """Returns how many updates the call after `update` makes: to the next row, evaluation or end.

    Intervals longer than a chunk are cut into equal pieces, so that few lengths are compiled.
    """
    config = setup.config
    longest = _CHUNK if setup.options.data_location == "device" else PIECE
    if setup.layout.platform == "cpu":
        longest = min(longest, max(100, _CHUNK // len(setup.members)))
    pieces = -(-config.log_interval // longest)
    longest = -(-config.log_interval // pieces)
    boundary = setup.num_updates
    for interval in (config.log_interval, config.eval_interval):
        boundary = min(boundary, update - update % interval + interval)
    return min(longest, boundary - update)


def log_chunks(session: Session, chunks: list[Chunk], wait: bool = False) -> None:
    """Logs chunks in order and forgets them, unless an evaluation before them is under way.

    Then they are kept, so that rows are in order and an abandoned evaluation can be made up for:
    the run then goes back to its update, from which a resumed run trains as this one did.

    Args:
      session: of the run.
      chunks: calls of the compiled program, in order.
      wait: for the evaluation.

    Raises:
      InputError: training is no longer finite, and `on_nan` says to stop or no member is left; a
        file cannot be written.
    """
    if session.pending is not None:
        if not wait and not session.pending.evaluations.done():
            if chunks:  # so that the device is not sent calls without end
                jax.block_until_ready(chunks[-1].broken_at)
            return
        _finish_pending(session)
        if assessment_is_due(session):  # it was abandoned
            chunks.clear()
    for chunk in chunks:
        _log_chunk(session, chunk)
    chunks.clear()


def _log_chunk(session: Session, chunk: Chunk) -> None:
    """Adds a chunk to the current row of metrics, and writes the row where it is complete."""
    config = session.setup.config
    session.done.update = chunk.update
    metrics, broken_at = session.setup.team.gather((chunk.metrics, chunk.broken_at))
    drop_broken(session, broken_at)
    add_metrics(session, metrics, chunk.num_updates)
    tick(session)
    session.progress.advance(chunk.num_updates)
    if chunk.update % config.log_interval == 0 or chunk.update == session.setup.num_updates:
        write_row(session)


def add_metrics(session: Session, metrics: Mapping[str, np.ndarray], num_updates: int) -> None:
    """Adds means f32[P] over some updates to the current row of metrics."""
    done = session.done
    for name, values in metrics.items():
        sums = np.asarray(done.sums.get(name, 0.0)) + num_updates * values.astype(np.float64)
        done.sums[name] = sums.tolist()
    done.num_summed += num_updates


def write_row(session: Session, **more: np.ndarray) -> None:
    """Writes the row of metrics since the last one, with more columns f64[P]."""
    tick(session)
    done, alive = session.done, session.alive
    row: dict[str, Any] = {name: values[alive] for name, values in more.items()}
    row |= {
        f"training/{name}": np.asarray(sums)[alive] / done.num_summed
        for name, sums in done.sums.items()
    }
    seconds = max(done.summed_seconds, 1e-9)
    row["timing/updates_per_second"] = done.num_summed / seconds
    row["timing/wall_seconds"] = done.wall_seconds
    if session.setup.config.online is not None:
        steps = done.env_steps - done.row_env_steps
        row["timing/env_steps_per_second"] = steps / seconds
    session.log.log_metrics(done.update, row, env_steps(session), members=alive)
    done.sums, done.num_summed, done.summed_seconds = {}, 0, 0.0
    done.row_env_steps = done.env_steps


def env_steps(session: Session) -> int | None:
    """Returns the environment steps done, for the log; None for offline training."""
    return None if session.setup.config.online is None else session.done.env_steps


def assessment_is_due(session: Session) -> bool:
    """Returns whether what the last update on the dataset left is to be evaluated."""
    done = session.done
    return ends_interval(session.setup, done.update) and done.assessed != done.update


def ends_interval(setup: Setup, update: int) -> bool:
    """Returns whether what this update on the dataset leaves is one to evaluate."""
    interval, end = setup.config.eval_interval, setup.num_updates
    return update > 0 and (update == end or (update < end and update % interval == 0))


def save_is_due(session: Session) -> bool:
    """Returns whether the last checkpoint is old enough for another."""
    return time.perf_counter() - session.saved_at >= session.setup.options.checkpoint_seconds


def agree(session: Session) -> tuple[bool, bool]:
    """Returns whether the run was asked to stop, and whether the last checkpoint is old enough.

    All processes of the run get the same: a signal to one stops all, and the first one's clock
    counts.
    """
    mine = session.signals.number, save_is_due(session)
    signals, due = zip(*session.setup.team.exchange(mine), strict=True)
    session.signals.agree(max(signals))
    return max(signals) > 0, due[0]  # not what came meanwhile, of which the others do not know


def assess_and_save(session: Session, states: Any) -> None:
    """Evaluates where that is due, then begins a checkpoint of the run as it is now.

    An evaluation beside training is begun only: `log_chunks` ends it, and saves what it evaluated.

    Raises:
      InputError: the states are no longer finite, and `on_nan` says to stop or no member is left;
        a file cannot be written.
    """
    check_finite(session, states)
    if assessment_is_due(session) and _training_goes_on(session):
        copies = jax.tree.map(jnp.copy, states)  # training goes on in the buffers of `states`
        paths = _watch(session)
        evaluations = session.beside.submit(_evaluate, session, copies, paths)
        session.pending = Pending(copies, paths, evaluations)
        return
    score = assess(session, states) if assessment_is_due(session) else None
    save(session, states, score)


def _training_goes_on(session: Session) -> bool:
    """Returns whether the evaluation that is due is to be made beside training."""
    more = session.done.update < session.setup.num_updates
    return session.setup.beside and session.evaluator is not None and more


def check_finite(session: Session, states: Any) -> None:
    """Leaves out members whose states are not finite, so that none is taken for a good one.

    The metrics of an update are of the states before it: the last one's harm shows only here.

    Raises:
      InputError: there is one, and `on_nan` says to stop or no member is left.
    """
    finite = session.setup.team.gather(_finite_members(states.replace(hyper=None)))
    drop_broken(session, np.where(finite, -1, session.done.update))


@jax.jit
def _finite_members(states: Any) -> jax.Array:
    """Returns whether all numbers of each member are finite: bool[P]."""
    finite = [
        jnp.isfinite(leaf).all(axis=tuple(range(1, leaf.ndim)))
        for leaf in jax.tree.leaves(states)
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    ]
    return jnp.stack(finite).all(axis=0)


def drop_broken(session: Session, broken_at: np.ndarray) -> None:
    """Leaves out members whose training is not finite since update `broken_at` i32[P] >= 0.

    Raises:
      InputError: there is one, and `on_nan` says to stop or no member is left.
    """
    done, setup = session.done, session.setup
    for member in session.alive:
        if broken_at[member] < 0:
            continue
        saved = session.checkpoints.latest()
        message = (
            f"training of member {member} (seed {setup.seeds[member]}) is not finite from update "
            f"{broken_at[member]:,} on; the last good checkpoint is "
            + (f"that of update {saved:,}" if saved is not None else "none yet")
        )
        if setup.options.on_nan == "stop":
            raise InputError(
                f"{message}; lower the learning rates or the temperature, or let other members "
                "go on with --on_nan=drop"
            )
        done.dropped.append(member)
        session.progress.say(f"warning: {message}; it is dropped")
    if not session.alive:
        raise InputError("no member's training is finite any more; lower the learning rates")


def assess(session: Session, states: Any) -> float | None:
    """Logs distributions and scores of the members now; returns the mean score.

    None if there is no environment, or if interrupted, when nothing is logged.
    """
    tick(session)
    paths = _watch(session)
    return _log_assessment(session, states, paths, _evaluate(session, states, paths))


def _finish_pending(session: Session) -> None:
    """Waits for the evaluation beside training, logs it, and saves what it evaluated."""
    assert session.pending is not None
    states, paths, evaluations = session.pending
    tick(session)
    score = _log_assessment(session, states, paths, evaluations.result())
    session.pending = None
    save(session, states, score)


def _log_assessment(
    session: Session,
    states: Any,
    paths: maze_view.Paths,
    evaluations: Mapping[str, Evaluation] | None,
) -> float | None:
    """Logs evaluations and distributions; returns the mean score, None if there is none."""
    done, alive, setup = session.done, session.alive, session.setup
    evaluations = join_evaluations(setup.team.exchange(evaluations))
    done.evaluation_seconds += _passed(session)
    if evaluations is None:
        agree(session)  # on the signal that ended it, which the others may not have
        return None
    samples = setup.team.gather(session.diagnosis(states))
    session.log.log_histograms(
        done.update,
        {_HISTOGRAM_NAMES.get(name, name): values[alive] for name, values in samples.items()},
        members=alive,
    )
    if "" in evaluations and setup.team.leads and paths.member in alive:
        session.diagnosis.draw_maze(setup.run_dir, states, paths, evaluations[""], done.update)
    score = _log_evaluations(session, evaluations)
    done.assessed = done.update
    done.evaluation_seconds += _passed(session)
    return score


def _watch(session: Session) -> maze_view.Paths:
    """Returns what records the paths of the first of this process's members that is alive."""
    return maze_view.Paths(min(session.alive_here, default=0))


def _evaluate(
    session: Session, states: Any, paths: maze_view.Paths
) -> dict[str, Evaluation] | None:
    """Returns evaluations by way to act, "" being the configured one; None if interrupted.

    Empty where there is no environment. Changes nothing of the session: it may run in a thread.
    """
    evaluator, update = session.evaluator, session.done.update

    def stopped() -> bool:
        return session.signals.stopped() or session.beside.closing()

    if evaluator is None:
        return {}
    evaluation = evaluator(states, update, stopped, paths, members=session.alive_here)
    found = {"": evaluation}
    for name, config in session.setup.ways_to_act.items():
        if config == session.setup.agent_config:  # the configured way: the same episodes again
            found[name] = evaluation
            continue
        acting = evaluator.acting_by(config)
        found[name] = acting(states, update, stopped, members=session.alive_here)
    whole = {name: evaluation for name, evaluation in found.items() if evaluation is not None}
    return whole if len(whole) == len(found) else None


def _log_evaluations(session: Session, evaluations: Mapping[str, Evaluation]) -> float | None:
    """Writes and tells evaluations; returns the mean score of the configured way to act."""
    score: float | None = None
    others: dict[str, Any] = {}
    for name, evaluation in evaluations.items():
        columns = {
            column: value[session.alive] if isinstance(value, np.ndarray) else value
            for column, value in evaluation.columns().items()
        }
        scores = columns["return_mean"] if columns["score"] is None else columns["score"]
        _tell(session, name, evaluation, scores)
        if name:
            others |= {f"evaluation/{column}@{name}": value for column, value in columns.items()}
            continue
        score = float(scores.mean())
        session.progress.note(score=score)
        session.log.log_evaluation(
            session.done.update, columns, env_steps(session), members=session.alive
        )
    if others:
        session.log.log_metrics(
            session.done.update, others, env_steps(session), members=session.alive
        )
    return score


def _tell(session: Session, way_to_act: str, evaluation: Evaluation, scores: np.ndarray) -> None:
    spread = f" (members {scores.min():.1f} to {scores.max():.1f})" if len(scores) > 1 else ""
    candidates = f" with candidates {way_to_act}" if way_to_act else ""
    session.progress.say(
        f"update {session.done.update:,}: {session.setup.problem.score_meaning} "
        f"{scores.mean():.1f}{spread}{candidates}, {evaluation.returns.shape[1]} episodes each, "
        f"{evaluation.wall_seconds:.1f} s ({evaluation.acting_seconds:.1f} s acting)"
    )


def save(session: Session, states: Any, score: float | None = None) -> None:
    """Begins a checkpoint of the run as it is now.

    Raises:
      InputError: the one before could not be written.
    """
    tick(session)
    session.saved_at, session.saved = session.clock, session.done.update
    host = dataclasses.asdict(session.done)
    if session.setup.team.size > 1:
        states = session.setup.team.gather(states)
    if session.setup.team.leads:
        session.checkpoints.save(session.done.update, states, host, score)


def tick(session: Session) -> None:
    """Counts the time since the clock was last read as training's."""
    session.done.summed_seconds += _passed(session)


def _passed(session: Session) -> float:
    """Returns the seconds since the clock was last read, counted in the run's."""
    now = time.perf_counter()
    passed = now - session.clock
    session.done.wall_seconds += passed
    session.clock = now
    return passed
