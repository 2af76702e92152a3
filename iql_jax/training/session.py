"""A run from its directory to its results: how every training loop begins and ends."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

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
from iql_jax.training import interrupt, population, run_directory, video
from iql_jax.training.beside import Beside, Pending, chosen
from iql_jax.training.checkpoint import Checkpoints, Restored
from iql_jax.training.diagnosis import Diagnosis
from iql_jax.training.evaluation import Evaluator, acting_layout, ways_to_act
from iql_jax.training.interrupt import StopSignals
from iql_jax.training.members import Member, settings_of
from iql_jax.training.problem import Problem, describe, load_problem
from iql_jax.training.run_directory import RunOptions
from iql_jax.training.team import Team, claim, current_team, follow, load_alike


@dataclasses.dataclass(frozen=True)
class Setup:
    """What stays the same from the first update to the last."""

    config: RunConfig
    options: RunOptions
    members: list[Member]
    team: Team  # the processes that train them, each its share
    run_dir: Path
    problem: Problem
    agent: agents.Agent
    agent_config: Any
    layout: population.Layout
    hyper: agents.Hyperparameters
    init_keys: jax.Array
    training_keys: jax.Array
    acting_layout: population.Layout  # where members act in evaluations
    beside: bool  # whether training goes on meanwhile
    tasks: jax.Array | None  # i32[P], each member's, where they differ in it
    ways_to_act: Mapping[str, Any]  # further ones for evaluation: configurations by name

    @property
    def seeds(self) -> list[int]:
        """The seed of each member."""
        return [member.seed for member in self.members]

    @property
    def share(self) -> slice:
        """Which members this process trains: arrays on its devices are of these."""
        return self.team.share(len(self.members))

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
      assessed: the update of the last evaluation; what is on file after it is written again.
      dropped: members whose training is no longer finite.
      sums: by metric, the sum over the updates since the last row of metrics, f64[P].
      num_summed: how many updates those are.
      summed_seconds: how long they took.
      env_steps: environment steps of each member, when finetuning.
      row_env_steps: environment steps when the last row of metrics was written.
      acting: where the acting members are, when finetuning.
    """

    update: int = 0
    wall_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    assessed: int = 0
    dropped: list[int] = dataclasses.field(default_factory=list)
    sums: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    num_summed: int = 0
    summed_seconds: float = 0.0
    env_steps: int = 0
    row_env_steps: int = 0
    acting: dict[str, Any] | None = None


@dataclasses.dataclass
class Session:
    """What a training loop works with.

    `done` and what is below `progress` change. `done` tells what is logged: while an evaluation is
    pending it stays at that update, though the states are further.
    """

    setup: Setup
    done: Progression
    checkpoints: Checkpoints
    signals: StopSignals
    log: loggers.RunLog
    evaluator: Evaluator | None
    diagnosis: Diagnosis
    beside: Beside
    progress: Progress
    clock: float  # when `done.wall_seconds` was last brought up to date
    saved_at: float  # when the last checkpoint was begun
    saved: int  # the update of the last checkpoint
    pending: Pending | None = None  # the evaluation beside training

    @property
    def alive(self) -> list[int]:
        """Members whose training is finite."""
        return [i for i in range(len(self.setup.members)) if i not in self.done.dropped]

    @property
    def alive_here(self) -> list[int]:
        """Those of them that this process trains, counted from its first."""
        share = self.setup.share
        return [i - share.start for i in self.alive if share.start <= i < share.stop]


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
    team = current_team()
    with contextlib.ExitStack() as stack:
        options = follow(team, config, options, stack)
        run_dir, lock, resumed = claim(team, config, options, identity, stack)
        say(f"run          {run_dir}" + (" (continued)" if resumed else ""))
        with interrupt.nothing_to_save():
            setup = _set_up(config, members, options, team, run_dir, resumed)
        signals = stack.enter_context(StopSignals())
        checkpoints = stack.enter_context(Checkpoints(run_dir / "checkpoints", say=say))
        states, done = _start(setup, checkpoints)
        log = _open_log(setup, identity, done if resumed and team.leads else None, lock)
        try:
            evaluator = stack.enter_context(_open_evaluator(setup))
            beside = stack.enter_context(Beside())
            progress = stack.enter_context(Progress(setup.num_updates, done.update))
            now = time.perf_counter()
            yield (
                Session(
                    setup=setup,
                    done=done,
                    checkpoints=checkpoints,
                    signals=signals,
                    log=log,
                    evaluator=evaluator,
                    diagnosis=Diagnosis(
                        setup.agent,
                        setup.agent_config,
                        setup.layout,
                        setup.problem,
                        PRECISIONS[config.precision],
                        setup.tasks,
                    ),
                    beside=beside,
                    progress=progress,
                    clock=now,
                    saved_at=now,
                    saved=done.update,
                ),
                states,
            )
        except BaseException:
            log.close(failed=True)
            raise


def _set_up(
    config: RunConfig,
    members: list[Member],
    options: RunOptions,
    team: Team,
    run_dir: Path,
    resumed: bool,
) -> Setup:
    mine = members[team.share(len(members))]
    wants_env = options.evaluate or config.online is not None
    problem = load_alike(team, lambda: load_problem(config, wants_env))
    say(describe(problem))
    if options.record_video:
        video.check(problem.env_of(members[0].task))
    if resumed:
        team.by_leader(lambda: run_directory.check_fingerprint(run_dir, problem.dataset))
    agent = agents.get(config.agent)
    layout = population.choose_layout(len(mine))
    devices = layout.mesh.devices.ravel()
    say(
        f"members      {len(members)} x {config.agent} on {team.size * len(devices)} device(s) "
        f"({devices[0].device_kind}), {config.precision} products"
    )
    acting = acting_layout(agent, layout, len(mine))
    init_keys, training_keys = population.member_keys([member.seed for member in mine])
    hyper = population.stack_hyperparameters(
        [agent.make_hyperparameters(settings_of(config, member)) for member in mine]
    )
    sharding = layout.members(len(mine))
    agent_config = agent.make_config(config.settings(), problem.observation_dim, problem.action_dim)
    return Setup(
        config=config,
        options=options,
        members=members,
        team=team,
        run_dir=run_dir,
        problem=problem,
        agent=agent,
        agent_config=agent_config,
        layout=layout,
        hyper=jax.device_put(hyper, sharding),
        init_keys=init_keys,
        training_keys=jax.device_put(training_keys, sharding),
        acting_layout=acting,
        beside=team.size == 1 and chosen(options.evaluate_beside, layout, acting, len(members)),
        tasks=_tasks(mine, layout),
        ways_to_act=ways_to_act(agent, agent_config, options.eval_candidates),
    )


def _tasks(members: list[Member], layout: population.Layout) -> jax.Array | None:
    numbers = [member.task for member in members if member.task is not None]
    if not numbers:
        return None
    return jax.device_put(np.array(numbers, np.int32), layout.members(len(members)))


def _start(setup: Setup, checkpoints: Checkpoints) -> tuple[Any, Progression]:
    """Returns fresh states, or those of the last checkpoint where the directory has one.

    Raises:
      InputError: the run is further than it shall go, or every checkpoint is damaged.
    """
    states = population.init_many(
        setup.agent, setup.agent_config, setup.layout, setup.hyper, setup.init_keys
    )
    restored = setup.team.by_leader(lambda: _restore(setup, checkpoints, states))
    if restored is None:
        return states, Progression()
    mine = jax.tree.map(lambda leaf: leaf[setup.share], restored.arrays)
    states = jax.device_put(mine, setup.layout.members(len(setup.seeds) // setup.team.size))
    # The length of the learning-rate schedule may have changed with max_steps.
    states = states.replace(hyper=setup.hyper)
    done = Progression(**restored.host)
    offline = setup.config.online is None
    reached, unit = (done.update, "update") if offline else (done.env_steps, "environment step")
    if reached > setup.config.max_steps:
        raise InputError(
            f"max_steps is {setup.config.max_steps:,}, but '{setup.run_dir}' is at {unit} "
            f"{reached:,} already; give at least that many"
        )
    say(f"resumed      at update {done.update:,} of {setup.num_updates:,}")
    return states, done


def _restore(setup: Setup, checkpoints: Checkpoints, states: Any) -> Restored | None:
    """Returns the last checkpoint, of all members, NumPy leaves; None where there is none."""
    if checkpoints.latest() is None:
        return None
    num_members = len(setup.members)
    return checkpoints.restore(
        jax.tree.map(lambda x: jax.ShapeDtypeStruct((num_members, *x.shape[1:]), x.dtype), states)
    )


def _open_log(
    setup: Setup, identity: dict[str, Any], resumed: Progression | None, lock: Any
) -> loggers.RunLog:
    """Returns the log, after writing what the run is."""
    resume_at = None if resumed is None else resumed.update
    record = records.collect_record(
        dataset=setup.problem.dataset,
        transforms=setup.problem.transforms.to_dict(),
        env_name=setup.problem.env_name,
        score_meaning=setup.problem.score_meaning,
        matmul_precision=setup.config.precision,
    )
    records.write_record(setup.run_dir, record, resume_at)
    records.write_config(setup.run_dir, **identity)  # last: it is what makes a run of a directory
    connect: list[Any] = []
    if setup.options.wandb is not None:
        described = {**identity, "record": record}
        connect.append(
            wandb_logger.connector(setup.run_dir, setup.seeds, setup.options.wandb, described, say)
        )
    if setup.options.tensorboard:
        connect.append(tensorboard_logger.connector(setup.run_dir, setup.seeds, resume_at))
    return loggers.open_run(
        setup.run_dir,
        setup.seeds,
        resume_at,
        connect,
        say,
        lock=lock,
        evaluated_at=None if resumed is None else resumed.assessed,
    )


@contextlib.contextmanager
def _open_evaluator(setup: Setup) -> Iterator[Evaluator | None]:
    """Yields the evaluator, or None where there is no environment."""
    if setup.problem.env_name is None or not setup.options.evaluate:
        yield None
        return
    evaluator = Evaluator(
        setup.agent,
        setup.agent_config,
        setup.acting_layout,
        setup.problem,
        setup.seeds[setup.share],
        setup.config.eval_episodes,
        PRECISIONS[setup.config.precision],
        [member.task for member in setup.members[setup.share]],
    )
    try:
        yield evaluator
    finally:
        evaluator.close()


def finish(session: Session, states: Any) -> int:
    """Writes the results and the pictures, tells the end, and returns the exit status.

    The status is 0, or 128 plus the number of the signal that ended the run early.
    """
    setup, done = session.setup, session.done
    session.checkpoints.wait()
    session.progress.close()
    reached = done.update if setup.config.online is None else done.env_steps
    finished = reached == setup.config.max_steps and done.assessed == done.update
    if not setup.team.leads:
        return 0 if finished else session.signals.exit_status
    results = summary.summarise(
        setup.run_dir,
        wall_seconds=done.wall_seconds,
        evaluation_seconds=done.evaluation_seconds,
        finished=finished,
    )
    summary.write_results(setup.run_dir, results)
    for path in pictures.draw_run(setup.run_dir):
        session.log.log_media(done.update, path.stem, path)
    if setup.options.record_video and finished:
        _record_video(session, states)
    session.log.close(results)
    say("")
    say(summary.format_summary(results))
    say(f"run          {setup.run_dir}")
    if finished:  # a signal that came too late has changed nothing
        return 0
    say(
        f"stopped by {session.signals.name} at update {done.update:,}; the same command with "
        f"--save_dir={setup.run_dir} --resume continues"
    )
    return session.signals.exit_status


def _record_video(session: Session, states: Any) -> None:
    setup, update, member = session.setup, session.done.update, session.alive[0]
    env_name = setup.problem.env_of(setup.members[member].task)
    assert session.evaluator is not None and env_name is not None
    path = video.record(setup.run_dir, env_name, session.evaluator, states, update, member)
    session.log.log_media(update, "episode", path, member)
    say(f"video        {path}")
