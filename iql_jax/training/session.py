"""A run from its start to its end: what every training loop shares between its updates."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from iql_jax import agents
from iql_jax.config import PRECISIONS, RunConfig
from iql_jax.errors import InputError
from iql_jax.report import (
    loggers,
    pictures,
    records,
    summary,
    tensorboard_logger,
    wandb_logger,
)
from iql_jax.report.progress import Progress
from iql_jax.training import population, run_directory
from iql_jax.training.checkpoint import Checkpoints
from iql_jax.training.evaluation import Evaluation, Evaluator, ways_to_act
from iql_jax.training.feed import PIECE
from iql_jax.training.interrupt import StopSignals
from iql_jax.training.members import Member, settings_of
from iql_jax.training.problem import Problem, describe, load_problem
from iql_jax.training.run_directory import RunOptions

# Longest call of the compiled program, in member-updates of a CPU: Ctrl-C is heard between calls.
_CHUNK = 1000


@dataclasses.dataclass(frozen=True)
class Setup:
    """What stays the same from the first update to the last."""

    config: RunConfig
    options: RunOptions
    members: list[Member]
    run_dir: Path
    problem: Problem
    agent: agents.Agent
    agent_config: Any
    layout: population.Layout
    hyper: agents.Hyperparameters
    init_keys: jax.Array
    training_keys: jax.Array
    ways_to_act: Mapping[str, Any]  # further ones for evaluation: configurations by name

    @property
    def seeds(self) -> list[int]:
        """The seed of each member."""
        return [member.seed for member in self.members]

    @property
    def num_updates(self) -> int:
        """Updates on the dataset alone: all of them offline, the pretraining when finetuning."""
        online = self.config.online
        return self.config.max_steps if online is None else online.num_pretraining_steps


@dataclasses.dataclass
class Progression:
    """How far a run is: what a checkpoint keeps beside the members' states.

    Attributes:
      update: updates done.
      wall_seconds: spent in training loops, over all sessions of the run.
      evaluation_seconds: how much of that was evaluation.
      dropped: members whose training is no longer finite.
      sums: by metric, the sum over the updates since the last row of metrics, f64[P].
      num_summed: how many updates those are.
      env_steps: environment steps of each member, when finetuning.
      acting: where the acting members are, when finetuning.
    """

    update: int = 0
    wall_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    dropped: list[int] = dataclasses.field(default_factory=list)
    sums: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    num_summed: int = 0
    env_steps: int = 0
    acting: dict[str, Any] | None = None


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


@dataclasses.dataclass
class Session:
    """What a training loop works with; `done` alone changes, with the clock of this process."""

    setup: Setup
    done: Progression
    checkpoints: Checkpoints
    signals: StopSignals
    log: loggers.RunLog
    evaluator: Evaluator | None
    progress: Progress
    clock: float = 0.0  # when `done.wall_seconds` was last brought up to date
    saved_at: float = 0.0  # when the last checkpoint was begun
    row_started: float = 0.0  # training seconds when the last row of metrics was written
    row_env_steps: int = 0  # environment steps then

    @property
    def alive(self) -> list[int]:
        """Members whose training is finite."""
        return [i for i in range(len(self.setup.members)) if i not in self.done.dropped]


def say(text: str) -> None:
    """Prints a line of the run's story."""
    print(text, flush=True)


@contextlib.contextmanager
def open_session(
    config: RunConfig, members: list[Member], options: RunOptions, from_run: str | None = None
) -> Iterator[tuple[Session, Any]]:
    """Yields the session of a run, new or continued, and its members' states.

    Args:
      config: what to compute.
      members: seeds, and hyper-parameters in which they differ from the configuration.
      options: how to carry it out.
      from_run: the offline run that finetuning starts from, for the record.

    Raises:
      InputError: the run directory, the data or the environment cannot be used.
    """
    identity = {
        "config": dataclasses.asdict(config),
        "flags": {"members": members, "evaluate": options.evaluate, "from_run": from_run},
    }
    run_dir, resumed = run_directory.prepare(
        options.save_dir, options.resume, config.dataset_name, config.agent, identity
    )
    say(f"run          {run_dir}" + (" (continued)" if resumed else ""))
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(loggers.lock_run(run_dir))
        setup = _set_up(config, members, options, run_dir, resumed)
        signals = stack.enter_context(StopSignals())
        checkpoints = stack.enter_context(Checkpoints(run_dir / "checkpoints", say=say))
        states, done = _start(setup, checkpoints)
        log = _open_log(setup, identity, done.update if resumed else None, lock)
        try:
            evaluator = stack.enter_context(_open_evaluator(setup))
            progress = stack.enter_context(Progress(setup.num_updates, done.update))
            now = time.perf_counter()
            started = done.wall_seconds - done.evaluation_seconds
            yield (
                Session(
                    setup,
                    done,
                    checkpoints,
                    signals,
                    log,
                    evaluator,
                    progress,
                    clock=now,
                    saved_at=now,
                    row_started=started,
                    row_env_steps=done.env_steps,
                ),
                states,
            )
        except BaseException:
            log.close(failed=True)
            raise


def _set_up(
    config: RunConfig, members: list[Member], options: RunOptions, run_dir: Path, resumed: bool
) -> Setup:
    problem = load_problem(config, options.evaluate or config.online is not None)
    say(describe(problem))
    if resumed:
        run_directory.check_fingerprint(run_dir, problem.dataset)
    agent = agents.get(config.agent)
    layout = population.choose_layout(len(members))
    devices = layout.mesh.devices.ravel()
    say(
        f"members      {len(members)} x {config.agent} on {len(devices)} device(s) "
        f"({devices[0].device_kind}), {config.precision} products"
    )
    init_keys, training_keys = population.member_keys([member.seed for member in members])
    hyper = population.stack_hyperparameters(
        [agent.make_hyperparameters(settings_of(config, member)) for member in members]
    )
    sharding = layout.members(len(members))
    agent_config = agent.make_config(config.settings(), problem.observation_dim, problem.action_dim)
    return Setup(
        config=config,
        options=options,
        members=members,
        run_dir=run_dir,
        problem=problem,
        agent=agent,
        agent_config=agent_config,
        layout=layout,
        hyper=jax.device_put(hyper, sharding),
        init_keys=init_keys,
        training_keys=jax.device_put(training_keys, sharding),
        ways_to_act=ways_to_act(agent, agent_config, options.eval_candidates),
    )


def _start(setup: Setup, checkpoints: Checkpoints) -> tuple[Any, Progression]:
    """Returns fresh states, or those of the last checkpoint where the directory has one."""
    states = population.init_many(
        setup.agent, setup.agent_config, setup.layout, setup.hyper, setup.init_keys
    )
    if checkpoints.latest() is None:
        return states, Progression()
    restored = checkpoints.restore(states)
    # The length of the learning-rate schedule may have changed with max_steps.
    states = restored.arrays.replace(hyper=setup.hyper)
    done = Progression(**restored.host)
    say(f"resumed      at update {done.update:,} of {setup.num_updates:,}")
    return states, done


def _open_log(
    setup: Setup, identity: dict[str, Any], resume_at: int | None, lock: Any
) -> loggers.RunLog:
    """Returns the log, after writing what the run is."""
    record = records.collect_record(
        dataset=setup.problem.dataset,
        transforms=setup.problem.transforms.to_dict(),
        env_name=setup.problem.env_name,
        score_meaning=setup.problem.score_meaning,
        matmul_precision=setup.config.precision,
    )
    records.write_config(setup.run_dir, **identity)
    records.write_record(setup.run_dir, record, resume_at)
    connect: list[Any] = []
    if setup.options.wandb is not None:
        described = {**identity, "record": record}
        connect.append(
            wandb_logger.connector(setup.run_dir, setup.seeds, setup.options.wandb, described, say)
        )
    if setup.options.tensorboard:
        connect.append(tensorboard_logger.connector(setup.run_dir, setup.seeds, resume_at))
    return loggers.open_run(setup.run_dir, setup.seeds, resume_at, connect, say, lock=lock)


@contextlib.contextmanager
def _open_evaluator(setup: Setup) -> Iterator[Evaluator | None]:
    """Yields the evaluator, or None where there is no environment."""
    if setup.problem.env_name is None or not setup.options.evaluate:
        yield None
        return
    evaluator = Evaluator(
        setup.agent,
        setup.agent_config,
        setup.layout,
        setup.problem,
        setup.seeds,
        setup.config.eval_episodes,
        PRECISIONS[setup.config.precision],
    )
    try:
        yield evaluator
    finally:
        evaluator.close()


def chunk_length(setup: Setup, update: int) -> int:
    """Returns how many updates the call after `update` makes: to the next row, evaluation or end.

    Intervals longer than a chunk are cut into equal pieces, so that few lengths are compiled.
    """
    config = setup.config
    longest = _CHUNK if setup.options.data_location == "device" else PIECE
    if setup.layout.mesh.devices.flat[0].platform == "cpu":
        longest = min(longest, max(100, _CHUNK // len(setup.members)))
    pieces = -(-config.log_interval // longest)
    longest = -(-config.log_interval // pieces)
    boundary = setup.num_updates
    for interval in (config.log_interval, config.eval_interval):
        boundary = min(boundary, update - update % interval + interval)
    return min(longest, boundary - update)


def log_chunk(session: Session, chunk: Chunk) -> None:
    """Adds a chunk to the current row of metrics, and writes the row where it is complete.

    Raises:
      InputError: training is no longer finite, and `on_nan` says to stop or no member is left.
    """
    config = session.setup.config
    metrics, broken_at = jax.device_get((chunk.metrics, chunk.broken_at))
    drop_broken(session, broken_at)
    add_metrics(session, metrics, chunk.num_updates)
    tick(session)
    session.progress.advance(chunk.num_updates)
    if chunk.update % config.log_interval and chunk.update < session.setup.num_updates:
        return
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
    done = session.done
    alive = session.alive
    tick(session)
    row: dict[str, Any] = {name: values[alive] for name, values in more.items()}
    row |= {
        f"training/{name}": np.asarray(sums)[alive] / done.num_summed
        for name, sums in done.sums.items()
    }
    seconds = done.wall_seconds - done.evaluation_seconds
    row["timing/updates_per_second"] = done.num_summed / max(seconds - session.row_started, 1e-9)
    row["timing/wall_seconds"] = done.wall_seconds
    if session.setup.config.online is not None:
        steps = done.env_steps - session.row_env_steps
        row["timing/env_steps_per_second"] = steps / max(seconds - session.row_started, 1e-9)
        session.row_env_steps = done.env_steps
    session.log.log_metrics(done.update, row, env_steps(session), members=alive)
    done.sums, done.num_summed, session.row_started = {}, 0, seconds


def env_steps(session: Session) -> int | None:
    """Returns the environment steps done, for the log; None for offline training."""
    return None if session.setup.config.online is None else session.done.env_steps


def drop_broken(session: Session, broken_at: np.ndarray) -> None:
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


def evaluation_is_due(session: Session) -> bool:
    """Returns whether the policy after this update is to be evaluated."""
    config, update = session.setup.config, session.done.update
    at_boundary = update % config.eval_interval == 0 or update == session.setup.num_updates
    return (
        session.evaluator is not None
        and update > 0
        and at_boundary
        and session.log.last_evaluation != update
    )


def evaluate(session: Session, states: Any) -> float | None:
    """Returns the mean score of the members now, after logging it; None if interrupted."""
    assert session.evaluator is not None
    done, alive = session.done, session.alive
    evaluation = session.evaluator(states, done.update, session.signals.stopped)
    columns = _tell(session, evaluation)
    if columns is None:
        return None
    others: dict[str, Any] = {}
    for name, config in session.setup.ways_to_act.items():
        evaluator = session.evaluator.acting_by(config)
        evaluation = evaluator(states, done.update, session.signals.stopped)
        other = _tell(session, evaluation, name)
        if other is None:
            return None
        others |= {f"evaluation/{column}@{name}": value for column, value in other.items()}
    session.log.log_evaluation(done.update, columns, env_steps(session), members=alive)
    if others:
        session.log.log_metrics(done.update, others, env_steps(session), members=alive)
    scores = _scores(columns)
    session.progress.note(score=float(scores.mean()))
    return float(scores.mean())


def _tell(
    session: Session, evaluation: Evaluation | None, way_to_act: str = ""
) -> dict[str, Any] | None:
    """Returns the columns of an evaluation after printing its score; None if interrupted."""
    tick(session)
    if evaluation is None:
        return None
    done, alive = session.done, session.alive
    done.evaluation_seconds += evaluation.wall_seconds
    columns = {
        name: value[alive] if isinstance(value, np.ndarray) else value
        for name, value in evaluation.columns().items()
    }
    scores = _scores(columns)
    spread = f" (members {scores.min():.1f} to {scores.max():.1f})" if len(scores) > 1 else ""
    candidates = f" with candidates {way_to_act}" if way_to_act else ""
    session.progress.say(
        f"update {done.update:,}: {session.setup.problem.score_meaning} {scores.mean():.1f}{spread}"
        f"{candidates}, {columns['episodes']} episodes each, {evaluation.wall_seconds:.1f} s "
        f"({evaluation.acting_seconds:.1f} s acting)"
    )
    return columns


def _scores(columns: Mapping[str, Any]) -> np.ndarray:
    """Returns what an evaluation's score is, f64[P]: the return where nothing better is known."""
    return columns["return_mean"] if columns["score"] is None else columns["score"]


def save(session: Session, states: Any, score: float | None = None) -> None:
    """Begins a checkpoint of the run as it is now."""
    tick(session)
    session.saved_at = session.clock
    host = dataclasses.asdict(session.done)
    session.checkpoints.save(session.done.update, states, host, score)


def save_is_due(session: Session) -> bool:
    """Returns whether the last checkpoint is old enough for another."""
    return time.perf_counter() - session.saved_at >= session.setup.options.checkpoint_seconds


def tick(session: Session) -> None:
    now = time.perf_counter()
    session.done.wall_seconds += now - session.clock
    session.clock = now


def finish(session: Session) -> int:
    """Writes the results and the learning curves, tells the end, and returns the exit status.

    The status is 0, or 128 plus the number of the signal that ended the run early.
    """
    setup, done = session.setup, session.done
    online = setup.config.online
    session.checkpoints.wait()
    session.progress.close()
    results = summary.summarise(
        setup.run_dir,
        wall_seconds=done.wall_seconds,
        evaluation_seconds=done.evaluation_seconds,
        finished=setup.config.max_steps == (done.update if online is None else done.env_steps),
    )
    summary.write_results(setup.run_dir, results)
    pictures.draw_run(setup.run_dir)
    session.log.close(results)
    say("")
    say(summary.format_summary(results))
    say(f"run          {setup.run_dir}")
    if session.signals.stopped():
        say(
            f"stopped by {session.signals.name} at update {done.update:,}; the same command with "
            f"--save_dir={setup.run_dir} --resume continues"
        )
    return session.signals.exit_status
