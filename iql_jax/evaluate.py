"""Scores a saved run again.

    python -m iql_jax.evaluate RUN                            every member, its last checkpoint
    python -m iql_jax.evaluate RUN --checkpoint=best --episodes=100
    python -m iql_jax.evaluate RUN --env_name=antmaze-medium-play-v2 --json
    python -m iql_jax.evaluate RUN --eval_candidates=16       IDQL with another number of candidates

Without --seed the episodes are those that training evaluated at that update.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from iql_jax import data
from iql_jax.config import PRECISIONS
from iql_jax.data import replay
from iql_jax.errors import InputError
from iql_jax.report import records, summary
from iql_jax.training import population, saved_run
from iql_jax.training.evaluation import Evaluation, Evaluator, ways_to_act
from iql_jax.training.problem import Problem, inspect_env
from iql_jax.training.saved_run import SavedRun


@dataclasses.dataclass(frozen=True)
class Scores:
    """What members of a run scored.

    Attributes:
      run: the run.
      update: of the checkpoint.
      env_name: the environment.
      score_meaning: what `score` is.
      members: which members, in the order of the columns.
      evaluation: of their episodes.
    """

    run: SavedRun
    update: int
    env_name: str
    score_meaning: str
    members: list[int]
    evaluation: Evaluation

    def rows(self) -> list[dict[str, Any]]:
        """Returns a row per member, as `evaluations.csv` has them; None where unknown."""
        columns = self.evaluation.columns()
        del columns["wall_seconds"]
        rows = []
        for place, member in enumerate(self.members):
            row: dict[str, Any] = {"member": member, "seed": self.run.members[member].seed}
            row |= self.run.members[member].overrides
            for name, value in columns.items():
                row[name] = value[place].item() if isinstance(value, np.ndarray) else value
            rows.append(row)
        return rows


def evaluate_run(
    run_dir: str,
    *,
    env_name: str | None = None,
    episodes: int | None = None,
    member: int | None = None,
    checkpoint: int | str = "last",
    seed: int | None = None,
    eval_candidates: str | None = None,
) -> Scores:
    """Returns what members of a saved run score.

    Args:
      run_dir: the run's directory.
      env_name: the environment; None for the run's own.
      episodes: per member; None for as many as in training.
      member: one member; None for all whose training stayed finite.
      checkpoint: `last`, `best` or an update.
      seed: of the episodes, the same for all members; None for those of training.
      eval_candidates: how many candidates an agent that draws them chooses from, with an optional
        rule: `16`, `64:implicit`; None for as in training.

    Raises:
      InputError: there is no such run, member, checkpoint or environment, or they do not fit.
    """
    run = saved_run.open_run(run_dir)
    if episodes is not None and episodes < 1:
        raise InputError(f"episodes is {episodes}, but must be a count of at least 1")
    config = run.agent_config
    if eval_candidates is not None:
        config = ways_to_act(run.agent, config, [eval_candidates])[eval_candidates]
    problem = _problem(run, env_name or run.env_name)
    saved = saved_run.restore(run, checkpoint)
    if member is not None:
        saved_run.check_member(run, saved, member)
    members = [i for i in range(len(run.members)) if i not in saved.dropped]
    members = members if member is None else [member]
    layout = population.choose_layout(len(members))
    states = jax.tree.map(lambda leaf: leaf[np.array(members)], saved.states)
    evaluator = Evaluator(
        run.agent,
        config,
        layout,
        problem,
        [run.members[i].seed if seed is None else seed for i in members],
        run.config.eval_episodes if episodes is None else episodes,
        PRECISIONS[run.config.precision],
        [run.members[i].task for i in members],
    )
    try:
        states = jax.device_put(states, layout.members(len(members)))
        evaluation = evaluator(states, saved.update)
    finally:
        evaluator.close()
    assert evaluation is not None and problem.env_name is not None
    assert problem.score_meaning is not None
    return Scores(run, saved.update, problem.env_name, problem.score_meaning, members, evaluation)


def _problem(run: SavedRun, env_name: str | None) -> Problem:
    """Returns the environment with the run's transforms, and no data.

    Raises:
      InputError: there is no environment, or one with other observations or actions.
    """
    if env_name is None:
        raise InputError(f"'{run.path}' was trained without an environment; name one: --env_name")
    task_envs = data.tasks(env_name)
    facts = inspect_env(task_envs[0] if task_envs else env_name)
    for what, found, wanted in (
        ("observations", facts.observation_dim, run.observation_dim),
        ("actions", facts.action_dim, run.action_dim),
    ):
        if found != wanted:
            raise InputError(
                f"environment {env_name!r} has {what} of {found} numbers, but '{run.path}' was "
                f"trained on {wanted}; name one like that of the data"
            )
    width = replay.row_width(run.observation_dim, run.action_dim)
    return Problem(
        rows=np.zeros((0, width), np.float32),
        observation_dim=run.observation_dim,
        action_dim=run.action_dim,
        transforms=run.transforms,
        dataset={},
        env_name=env_name,
        reports_success=facts.reports_success,
        task_envs=task_envs,
    )


def format_table(scores: Scores) -> str:
    """Returns the scores as aligned text, a line per member and their mean."""
    rows = scores.rows()
    swept = list(scores.run.members[0].overrides)
    label = scores.score_meaning
    scored = rows[0]["score"] is not None
    header = ["member", "seed", *swept, *([label] if scored else []), "return", "std", "success"]
    lines = [[*header, "episode length"]]
    mean: dict[str, Any] = {"member": "mean", "seed": "", **dict.fromkeys(swept, "")}
    for name in ("score", "return_mean", "return_std", "success_rate", "length_mean"):
        values = [row[name] for row in rows]
        mean[name] = None if values[0] is None else float(np.mean(values))
    for row in [*rows, mean] if len(rows) > 1 else rows:
        success = row["success_rate"]
        cells = [str(row["member"]), str(row["seed"]), *(str(row[name]) for name in swept)]
        cells += [summary.number(row["score"])] if scored else []
        cells += [summary.number(row["return_mean"]), summary.number(row["return_std"])]
        cells += ["-" if success is None else f"{success:.0%}"]
        lines.append([*cells, summary.number(row["length_mean"], 0)])
    head = (
        f"{scores.run.path}, update {scores.update:,}, in {scores.env_name}: "
        f"{rows[0]['episodes']} episodes per member, {scores.evaluation.wall_seconds:.1f} s"
    )
    return "\n".join([head, *summary.align(lines)])


def format_json(scores: Scores) -> str:
    """Returns the scores as JSON."""
    return json.dumps(
        records.to_json(
            {
                "run": scores.run.path,
                "update": scores.update,
                "env_name": scores.env_name,
                "score_meaning": scores.score_meaning,
                "members": scores.rows(),
            }
        ),
        indent=2,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m iql_jax.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", help="a run directory")
    parser.add_argument("--env_name", help="default: the run's own")
    parser.add_argument("--episodes", type=int, help="per member; default: as in training")
    parser.add_argument("--member", type=member_argument, default="all", help="all, or one from 0")
    parser.add_argument(
        "--checkpoint", type=checkpoint_argument, default="last", help="last, best or an update"
    )
    parser.add_argument("--seed", type=int, help="of the episodes; default: those of training")
    parser.add_argument(
        "--eval_candidates",
        help="candidates of an agent that draws them, with an optional rule: 16, 64:implicit; "
        "default: as in training",
    )
    parser.add_argument("--json", action="store_true", help="JSON in place of a table")
    return parser


def member_argument(text: str) -> int | None:
    """Returns the member of a command line's `all` (None) or number."""
    return None if text == "all" else int(text)


def checkpoint_argument(text: str) -> int | str:
    """Returns the checkpoint of a command line's `last`, `best` or number."""
    return text if text in ("last", "best") else int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status of the command line: 0, or 2 for bad input."""
    parsed = _parser().parse_args(arguments)
    try:
        scores = evaluate_run(
            parsed.run,
            env_name=parsed.env_name,
            episodes=parsed.episodes,
            member=parsed.member,
            checkpoint=parsed.checkpoint,
            seed=parsed.seed,
            eval_candidates=parsed.eval_candidates,
        )
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(format_json(scores) if parsed.json else format_table(scores))
    return 0


if __name__ == "__main__":
    sys.exit(main())
