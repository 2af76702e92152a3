"""What is learned from and acted in: a dataset as rows, its transforms, and the environment."""

import dataclasses
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from iql_jax import data, envs
from iql_jax.config import RunConfig
from iql_jax.data import replay, transforms
from iql_jax.data.raw import RawDataset, fingerprint, validate
from iql_jax.envs import scores
from iql_jax.envs.flatten import takes_choices
from iql_jax.errors import InputError

# Which rows `init_dataset_size` keeps is the same for every seed: members share the dataset.
_INIT_DATASET = 0


@dataclasses.dataclass(frozen=True)
class Transforms:
    """The same changes for stored and for lived transitions."""

    reward: transforms.RewardTransform
    observation: transforms.ObservationTransform
    action: transforms.ActionTransform

    def to_dict(self) -> dict[str, Any]:
        """Returns what a run's record keeps."""
        return {field.name: getattr(self, field.name).to_dict() for field in _FIELDS}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> "Transforms":
        """Returns the transforms that `to_dict` recorded."""
        return cls(
            reward=transforms.RewardTransform.from_dict(record["reward"]),
            observation=transforms.ObservationTransform.from_dict(record["observation"]),
            action=transforms.ActionTransform.from_dict(record["action"]),
        )


_FIELDS = dataclasses.fields(Transforms)


@dataclasses.dataclass(frozen=True)
class Problem:
    """A dataset ready for the device, and the environment that judges what is learned from it.

    Attributes:
      rows: f32[N, W] as `replay.pack` lays them out, transformed.
      observation_dim, action_dim: O and A.
      transforms: fitted on the dataset; to be used in the environment too.
      dataset: name, source, rows, episodes and fingerprint, for the run's record.
      env_name: the environment for evaluation; None trains without any.
      task_envs: where the dataset is that of several tasks, the environment of each.
      reports_success: whether the environment tells if the goal is reached.
    """

    rows: np.ndarray
    observation_dim: int
    action_dim: int
    transforms: Transforms
    dataset: dict[str, Any]
    env_name: str | None
    reports_success: bool
    task_envs: tuple[str, ...] = ()

    @property
    def score_meaning(self) -> str | None:
        """What the score of an evaluation is; None without an environment."""
        if self.env_name is None:
            return None
        if scores.reference_returns(self.env_name) is not None:
            return "normalised score"
        return "success rate (%)" if self.reports_success else "return"

    def env_of(self, task: int | None) -> str | None:
        """Returns the name of the environment of a task, of the only one by default."""
        return self.task_envs[task or 0] if self.task_envs else self.env_name

    def make_env(self, task: int | None = None) -> gymnasium.Env:
        """Returns a new environment for evaluation in a task, the only one by default."""
        name = self.env_of(task)
        assert name is not None
        return envs.make(name)


class EnvFacts(NamedTuple):
    """What an environment is like.

    Attributes:
      observation_dim, action_dim: O and A.
      low, high: f32[A], the bounds of its actions.
      reports_success: whether it tells if the goal is reached.
      takes_choices: whether its actions are one-hot choices.
    """

    observation_dim: int
    action_dim: int
    low: np.ndarray
    high: np.ndarray
    reports_success: bool
    takes_choices: bool


def load_problem(config: RunConfig, evaluate: bool = True) -> Problem:
    """Returns the dataset of a configuration as rows, with its transforms and environment.

    Args:
      config: the settings of the run.
      evaluate: whether an environment is wanted; without, none is made.

    Raises:
      InputError: the data cannot be had or used, or does not fit the environment.
    """
    name = config.dataset_name
    if evaluate and config.dataset is not None and not envs.exists(config.env_name):
        envs.make(config.env_name)  # says what is wrong with the name before anything is loaded
    _check_tasks(config, evaluate)
    raw = data.load(name)
    env_name = None
    if evaluate:
        env_name = raw.env_name if config.dataset is None else config.env_name
    task_envs = raw.tasks if evaluate else ()
    judge = task_envs[0] if task_envs else env_name
    facts = None if judge is None else _check_against(raw, judge)
    _check_choices(config, raw, facts)
    low, high = (None, None) if facts is None else (facts.low, facts.high)
    fitted = Transforms(
        reward=_fit_reward(config.reward_transform, raw),
        observation=transforms.fit_observation(config.observation_transform, raw),
        action=transforms.fit_action(config.action_transform, raw, low, high),
    )
    return Problem(
        rows=_limit(
            replay.pack(transforms.apply(raw, fitted.reward, fitted.observation, fitted.action)),
            config,
        ),
        observation_dim=raw.observations.shape[1],
        action_dim=raw.actions.shape[1],
        transforms=fitted,
        dataset={
            "name": raw.name,
            "source": raw.source,
            "rows": len(raw.rewards),
            "episodes": int(raw.ends.sum()),
            "fingerprint": fingerprint(raw),
            **_behaviour(raw, judge, facts),
            **_tasks(raw, facts),
        },
        env_name=env_name,
        task_envs=task_envs,
        reports_success=facts is not None and facts.reports_success,
    )


def _check_tasks(config: RunConfig, evaluate: bool) -> None:
    """Checks that what is asked for is possible where the dataset is that of several tasks.

    Raises:
      InputError: members are to be evaluated elsewhere, or to act while they learn.
    """
    tasks = data.tasks(config.dataset_name)
    if tasks and config.online is not None:
        raise InputError(
            f"'{config.dataset_name}' is {len(tasks)} tasks, and finetuning acts in one: name it, "
            f"as {tasks[0]}"
        )
    if tasks and evaluate and config.dataset is not None:
        raise InputError(
            f"'{config.dataset}' is {len(tasks)} tasks, each evaluated in its own environment: "
            "name it with --env_name, without --dataset"
        )


def _fit_reward(name: str, raw: RawDataset) -> transforms.RewardTransform:
    """Returns the transform of rewards, which all tasks of the dataset must share.

    Raises:
      InputError: they do not.
    """
    fitted = transforms.fit_reward(name, raw)
    for number, task in enumerate(raw.tasks):
        other = transforms.fit_reward(name, raw.of_task(number))
        if other != fitted:
            raise InputError(
                f"reward_transform {name} is another for '{task}' (x {other.scale:g} + "
                f"{other.shift:g}) than for '{raw.tasks[0]}' (x {fitted.scale:g} + "
                f"{fitted.shift:g}): train them one by one, or use none or minus_one"
            )
    return fitted


def _tasks(raw: RawDataset, facts: EnvFacts | None) -> dict[str, Any]:
    """Returns the tasks of a dataset for a run's record, {} where there is one."""
    if not raw.tasks:
        return {}
    parts = [raw.of_task(number) for number in range(len(raw.tasks))]
    return {"tasks": [{"name": p.name, **_behaviour(p, p.env_name, facts)} for p in parts]}


def _behaviour(
    raw: RawDataset, env_name: str | None, facts: EnvFacts | None
) -> dict[str, float | None]:
    """Returns what the data's own episodes achieved, for a run's record."""
    return {
        "behaviour_return": transforms.behaviour_return(raw),
        "behaviour_score": _behaviour_score(raw, env_name, facts),
    }


def _behaviour_score(raw: RawDataset, env_name: str | None, facts: EnvFacts | None) -> float | None:
    """Returns what the data's own episodes score, in the measure of evaluations, if that is known.

    They may have had other starts and goals than the environment has.
    """
    if env_name is None or facts is None:
        return None
    score = scores.normalized_score(env_name, transforms.behaviour_return(raw))
    if score is not None:
        return float(score)
    if not facts.reports_success:
        return None
    success = transforms.behaviour_success(raw)
    return None if success is None else 100.0 * success


def _check_against(raw: RawDataset, env_name: str) -> EnvFacts:
    """Returns what training needs to know of the environment.

    Raises:
      InputError: there is no such environment, or the data does not fit it.
    """
    try:
        facts = inspect_env(env_name)
    except InputError as error:
        raise InputError(f"{error}; --noevaluate trains without an environment") from error
    validate(raw, facts.observation_dim, facts.action_dim, env_name)
    return facts


def _check_choices(config: RunConfig, raw: RawDataset, facts: EnvFacts | None) -> None:
    """Checks that a categorical policy learns from choices, and chooses where that is asked for.

    Raises:
      InputError: shows the setting to change, or the row that is no choice.
    """
    chooses = config.policy_distribution == "categorical"
    if facts is not None and facts.takes_choices != chooses:
        takes = (
            f"takes one of {facts.action_dim} choices" if facts.takes_choices else "takes numbers"
        )
        fit = "categorical" if facts.takes_choices else "gaussian"
        raise InputError(
            f"policy_distribution is {config.policy_distribution!r}, but '{config.env_name}' "
            f"{takes}: use --config.policy_distribution={fit}"
        )
    if chooses:
        chosen = ((raw.actions == 0) | (raw.actions == 1)).all(axis=1) & (
            raw.actions.sum(axis=1) == 1
        )
        if not chosen.all():
            row = int(np.argmin(chosen))
            raise InputError(
                f"{raw.name}: 'actions' row {row} is {raw.actions[row].tolist()}, which is no "
                "choice; a categorical policy learns from one-hot rows, or from whole numbers "
                "(rows,) in a file of your own"
            )


def inspect_env(env_name: str) -> EnvFacts:
    """Returns what an environment is like, after a step in it.

    Raises:
      InputError: there is no such environment.
    """
    env = envs.make(env_name)
    try:
        assert isinstance(env.observation_space, gymnasium.spaces.Box)
        assert isinstance(env.action_space, gymnasium.spaces.Box)
        low, high = env.action_space.low, env.action_space.high
        env.reset(seed=0)
        info = env.step(np.clip(np.zeros_like(low), low, high))[-1]
        return EnvFacts(
            observation_dim=env.observation_space.shape[0],
            action_dim=env.action_space.shape[0],
            low=low,
            high=high,
            reports_success="success" in info,
            takes_choices=takes_choices(env),
        )
    finally:
        env.close()


def _limit(rows: np.ndarray, config: RunConfig) -> np.ndarray:
    """Returns as many rows, drawn without replacement, as finetuning is to start with."""
    if config.online is None or config.online.init_dataset_size is None:
        return rows
    size = config.online.init_dataset_size
    if size > len(rows):
        raise InputError(
            f"init_dataset_size is {size:,}, but {config.dataset_name} has {len(rows):,} rows"
        )
    return rows[np.random.default_rng(_INIT_DATASET).permutation(len(rows))[:size]]


def describe(problem: Problem) -> str:
    """Returns a few lines for the start of a run: what data, how much, and how it is changed."""
    dataset, fitted = problem.dataset, problem.transforms
    reward = fitted.reward
    changes = [f"rewards {reward.name} (x {reward.scale:g} + {reward.shift:g})"]
    changes += [f"observations {fitted.observation.name}", f"actions {fitted.action.name}"]
    environment = problem.env_name or "none: training without evaluation"
    megabytes = problem.rows.nbytes / 1e6
    used = len(problem.rows)
    limited = "" if used == dataset["rows"] else f" ({used:,} of them drawn to start with)"
    return "\n".join(
        [
            f"data         {dataset['name']}: {dataset['rows']:,} transitions{limited}, "
            f"{dataset['episodes']:,} episodes, {megabytes:.0f} MB, "
            f"fingerprint {dataset['fingerprint']}",
            f"source       {dataset['source']}",
            f"transforms   {', '.join(changes)}",
            f"environment  {environment}",
        ]
    )
