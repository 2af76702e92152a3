"""The settings of a run: their one place of defaults, and their validation.

A config file returns an `ml_collections.ConfigDict` made by `base_config()` with its own values
set; `--config.field=value` overrides one of them; `from_config_dict` checks the result.
"""

import dataclasses
import math
from typing import Any

from ml_collections import config_dict

from iql_jax.errors import InputError

REWARD_TRANSFORMS = ("none", "minus_one", "return_range_1000")
OBSERVATION_TRANSFORMS = ("none", "standardize")
ACTION_TRANSFORMS = ("none", "rescale")
PRECISIONS = {  # by name: what `jax.default_matmul_precision` calls it
    "float32": "float32",
    "tf32": "tensorfloat32",
    "bfloat16_products": "bfloat16",
}


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that decides what a run computes. The defaults are the authors' for locomotion.

    Attributes:
      env_name: the environment, and the dataset too unless `dataset` names another.
      dataset: where the data comes from when not from `env_name`: `file/...`, `d4rl/...`, ...
      agent: `iql`, or `bc` for behaviour cloning.
      hidden_dims: widths of the hidden layers of every network.
      num_critics: how many Q networks the minimum is over.
      dropout_rate: in the policy's hidden layers, in [0, 1).
      discount: in [0, 1].
      expectile: the paper's tau, in (0, 1).
      temperature: the paper's beta, an inverse temperature >= 0.
      target_update_rate: share of the new Q in the target Q at each update, in (0, 1].
      actor_lr: the policy's learning rate.
      critic_lr: both Q's learning rate.
      value_lr: V's learning rate.
      opt_decay_schedule: `cosine` takes the policy's rate to 0 over `max_steps`; `none` keeps it.
      reward_transform: `none`, `minus_one` or `return_range_1000`.
      observation_transform: `none` or `standardize`.
      action_transform: `none` (the data's actions are in [-1, 1]) or `rescale`.
      batch_size: transitions per update.
      max_steps: gradient updates.
      eval_episodes: episodes per evaluation and member.
      eval_interval: updates between evaluations.
      log_interval: updates between rows of metrics.
      precision: of matrix products: `float32`, `tf32` or `bfloat16_products`.
    """

    env_name: str = "generated/pointmaze-medium-v0"
    dataset: str | None = None
    agent: str = "iql"
    hidden_dims: tuple[int, ...] = (256, 256)
    num_critics: int = 2
    dropout_rate: float = 0.0
    discount: float = 0.99
    expectile: float = 0.7
    temperature: float = 3.0
    target_update_rate: float = 0.005
    actor_lr: float = 3e-4
    critic_lr: float = 3e-4
    value_lr: float = 3e-4
    opt_decay_schedule: str = "cosine"
    reward_transform: str = "none"
    observation_transform: str = "none"
    action_transform: str = "none"
    batch_size: int = 256
    max_steps: int = 1_000_000
    eval_episodes: int = 10
    eval_interval: int = 5_000
    log_interval: int = 1_000
    precision: str = "float32"

    @property
    def dataset_name(self) -> str:
        """The name the data is loaded by."""
        return self.env_name if self.dataset is None else self.dataset

    @property
    def actor_decay_steps(self) -> float:
        """Updates over which the policy's learning rate falls to 0; infinity for never."""
        return self.max_steps if self.opt_decay_schedule == "cosine" else math.inf

    def settings(self) -> dict[str, Any]:
        """Returns every setting by name, derived ones included, as agents read them."""
        return dataclasses.asdict(self) | {"actor_decay_steps": self.actor_decay_steps}


def base_config() -> config_dict.ConfigDict:
    """Returns the defaults as a `ConfigDict` for a config file to change."""
    fields = dataclasses.asdict(RunConfig())
    fields["dataset"] = config_dict.placeholder(str)  # a plain None could not be overridden
    return config_dict.ConfigDict(fields)


def from_config_dict(config: config_dict.ConfigDict, **overrides: Any) -> RunConfig:
    """Returns the validated settings of a config file.

    Args:
      config: what the file returned, after `--config.field=value`.
      **overrides: fields set by flags of their own; None leaves the config's value.

    Raises:
      InputError: an unknown field or a value that is not allowed.
    """
    fields = dict(config.to_dict())
    known = [field.name for field in dataclasses.fields(RunConfig)]
    unknown = sorted(set(fields) - set(known))
    if unknown:
        raise InputError(
            f"config field {unknown[0]!r} does not exist: choose among {', '.join(known)}"
        )
    fields |= {name: value for name, value in overrides.items() if value is not None}
    fields["hidden_dims"] = tuple(fields["hidden_dims"])
    run_config = RunConfig(**fields)
    validate(run_config)
    return run_config


def validate(config: RunConfig) -> None:
    """Checks every value against what is allowed.

    Raises:
      InputError: names the field, its value and what is allowed.
    """
    for name in ("batch_size", "max_steps", "eval_episodes", "eval_interval", "log_interval"):
        _require(config, name, getattr(config, name) >= 1, "a count of at least 1")
    _require(
        config,
        "hidden_dims",
        len(config.hidden_dims) > 0 and all(width >= 1 for width in config.hidden_dims),
        "at least one width, each at least 1",
    )
    _require(config, "num_critics", config.num_critics >= 1, "at least 1")
    _require(config, "dropout_rate", 0 <= config.dropout_rate < 1, "in [0, 1)")
    _require(config, "discount", 0 <= config.discount <= 1, "in [0, 1]")
    _require(config, "expectile", 0 < config.expectile < 1, "strictly between 0 and 1")
    _require(config, "temperature", 0 <= config.temperature < math.inf, "a number >= 0")
    _require(config, "target_update_rate", 0 < config.target_update_rate <= 1, "in (0, 1]")
    for name in ("actor_lr", "critic_lr", "value_lr"):
        _require(config, name, 0 <= getattr(config, name) < math.inf, "a number >= 0")
    for name, allowed in (
        ("opt_decay_schedule", ("cosine", "none")),
        ("reward_transform", REWARD_TRANSFORMS),
        ("observation_transform", OBSERVATION_TRANSFORMS),
        ("action_transform", ACTION_TRANSFORMS),
        ("precision", tuple(PRECISIONS)),
    ):
        _require(config, name, getattr(config, name) in allowed, "one of " + ", ".join(allowed))


def _require(config: RunConfig, name: str, holds: bool, allowed: str) -> None:
    if not holds:
        raise InputError(f"{name} is {getattr(config, name)!r}, but must be {allowed}")
