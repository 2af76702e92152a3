"""The settings of a run: their one place of defaults, and their validation.

A config file returns an `ml_collections.ConfigDict` made by `base_config()` with its own values
set; `--config.field=value` overrides one of them; `from_config_dict` checks the result.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import config_dict

from iql_jax.errors import InputError

REWARD_TRANSFORMS = ("none", "minus_one", "return_range_1000", "unit_range")
OBSERVATION_TRANSFORMS = ("none", "standardize", "auctionnet")
ACTION_TRANSFORMS = ("none", "rescale", "rescale_quantile")
ACTIVATIONS = ("relu", "gelu")
CRITIC_LAYER_NORMS = ("none", "hidden", "value_inputs")
POLICY_DISTRIBUTIONS = ("gaussian", "constant_std", "categorical")
POLICY_EXTRACTIONS = ("awr", "ddpg_bc")
CRITIC_OBJECTIVES = ("expectile", "quantile", "exponential")
SCHEDULES = ("vp", "cosine", "linear")
NOISE_ACTIVATIONS = ("mish", "swish")
WEIGHTINGS = ("none", "exponential", "implicit", "hard")
ACTING_RULES = ("argmax", "implicit", "softmax")
SAMPLINGS = ("mixed", "symmetric", "online")
PRECISIONS = {  # by name: what `jax.default_matmul_precision` calls it
    "float32": "float32",
    "tf32": "tensorfloat32",
    "bfloat16_products": "bfloat16",
}


@dataclasses.dataclass(frozen=True)
class DiffusionSettings:
    """What the agent `idql` has beyond `iql`. The defaults are the paper's.

    Attributes:
      hidden_dim: width of the noise predictor's residual stream; its blocks are 4 times as wide.
      num_blocks: residual blocks.
      time_dim: Fourier features of the diffusion step, an even number.
      time_hidden_dims: widths of the network on those features.
      activation: `mish` (the paper's code) or `swish` (the last published).
      num_diffusion_steps: T.
      schedule: of the noise: `vp`, `cosine` or `linear`.
      ema_rate: share of the new policy in the averaged one, which acts, in (0, 1].
      weight_decay: of the policy, decoupled as in AdamW, >= 0.
      policy_updates: steps of the policy per update, each on its share of the batch.
      critic_batch_size: the critic learns from so many transitions of the batch.
      weighting: of the policy's loss: `none` learns the behaviour; `exponential` (IQL's weight),
        `implicit` (the critic objective's own) and `hard` (1 or 0) are the paper's ablations.
      num_candidates: actions drawn for each state, of which one is taken.
      acting_rule: how it is chosen: `argmax` of Q, `implicit` (resampling by the weights of the
        implicit policy), or `softmax` of Q.
      exploration_rule: the same, for acting in the environment while training online.
      softmax_temperature: Q is divided by it, > 0.
      finetune_policy: whether the policy learns on in online training, or the critics alone.
    """

    hidden_dim: int = 256
    num_blocks: int = 3
    time_dim: int = 64
    time_hidden_dims: tuple[int, ...] = (128, 128)
    activation: str = "mish"
    num_diffusion_steps: int = 5
    schedule: str = "vp"
    ema_rate: float = 0.001
    weight_decay: float = 0.0
    policy_updates: int = 2
    critic_batch_size: int = 256
    weighting: str = "none"
    num_candidates: int = 64
    acting_rule: str = "argmax"
    exploration_rule: str = "argmax"
    softmax_temperature: float = 1.0
    finetune_policy: bool = True


@dataclasses.dataclass(frozen=True)
class OnlineConfig:
    """How finetuning acts and learns. The defaults are the authors'.

    Attributes:
      num_pretraining_steps: updates on the dataset before the first environment step.
      updates_per_step: updates after each environment step.
      replay_buffer_size: rows of the ring buffer, the dataset included.
      init_dataset_size: rows of the dataset to start with; all of them by default.
      warmup_steps: environment steps before the first update.
      sampling: `mixed` draws batches from the whole buffer; `symmetric` half from the member's own
        transitions and half from the dataset; `online` drops the offline data.
      exploration_temperature: scale of the policy's own noise when acting.
      action_noise: standard deviation of Gaussian noise added to actions, for acting by the mean.
    """

    num_pretraining_steps: int = 1_000_000
    updates_per_step: int = 1
    replay_buffer_size: int = 2_000_000
    init_dataset_size: int | None = None
    warmup_steps: int = 0
    sampling: str = "mixed"
    exploration_temperature: float = 1.0
    action_noise: float = 0.0


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that decides what a run computes. The defaults are the authors' for locomotion.

    Attributes:
      env_name: the environment, and the dataset too unless `dataset` names another.
      dataset: where the data comes from when not from `env_name`: `file/...`, `d4rl/...`, ...
      agent: `iql`, `idql`, or `bc` for behaviour cloning.
      hidden_dims: widths of the hidden layers of every network.
      num_critics: how many Q networks the minimum is over.
      dropout_rate: in the policy's hidden layers, in [0, 1).
      activation: of hidden layers: `relu` or `gelu`.
      critic_layer_norm: `none`; `hidden` after each hidden layer of V and Q (OGBench); or
        `value_inputs` on V's inputs (IDQL's last commit).
      policy_distribution: `gaussian`, with a learned standard deviation; `constant_std`, a Gaussian
        with standard deviation 1; or `categorical`, for discrete actions.
      policy_extraction: `awr`, advantage-weighted regression; or `ddpg_bc`, up Q and the
        likelihood of the data.
      bc_coefficient: of the log-likelihood in `ddpg_bc`, >= 0.
      online_advantage: whether the policy's weights come from Q instead of the target Q.
      discount: in [0, 1].
      critic_objective: V's loss: `expectile` (IQL), `quantile` or `exponential`.
      expectile: the paper's tau, in (0, 1), of the expectile objective.
      quantile: in (0, 1), of the quantile objective.
      exponential_alpha: > 0, of the exponential objective.
      temperature: the paper's beta, an inverse temperature >= 0.
      target_update_rate: share of the new Q in the target Q at each update, in (0, 1].
      actor_lr: the policy's learning rate.
      critic_lr: both Q's learning rate.
      value_lr: V's learning rate.
      opt_decay_schedule: `cosine` takes the policy's rate to 0 over its updates; `none` keeps it.
      reward_transform: `none`, `minus_one`, `return_range_1000` or `unit_range`.
      observation_transform: `none`, `standardize` or `auctionnet`.
      action_transform: `none` (the data's actions are in [-1, 1]), `rescale`, `rescale_quantile`.
      batch_size: transitions per update.
      max_steps: gradient updates.
      eval_episodes: episodes per evaluation and member.
      eval_interval: updates between evaluations.
      log_interval: updates between rows of metrics.
      precision: of matrix products: `float32`, `tf32` or `bfloat16_products`.
      diffusion: what `idql` has beyond `iql`; None for the paper's values.
      online: how finetuning acts and learns, for `train_finetune.py`. There `max_steps` counts
        environment steps, and so do the intervals once acting has begun.
    """

    env_name: str = "generated/pointmaze-medium-v0"
    dataset: str | None = None
    agent: str = "iql"
    hidden_dims: tuple[int, ...] = (256, 256)
    num_critics: int = 2
    dropout_rate: float = 0.0
    activation: str = "relu"
    critic_layer_norm: str = "none"
    policy_distribution: str = "gaussian"
    policy_extraction: str = "awr"
    bc_coefficient: float = 1.0
    online_advantage: bool = False
    discount: float = 0.99
    critic_objective: str = "expectile"
    expectile: float = 0.7
    quantile: float = 0.7
    exponential_alpha: float = 1.0
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
    diffusion: DiffusionSettings | None = None
    online: OnlineConfig | None = None

    @property
    def dataset_name(self) -> str:
        """The name the data is loaded by."""
        return self.env_name if self.dataset is None else self.dataset

    @property
    def actor_decay_steps(self) -> float:
        """Updates over which the policy's learning rate falls to 0; infinity for never."""
        if self.opt_decay_schedule == "none":
            return math.inf
        if self.online is None:
            return self.max_steps
        stays = self.diffusion is not None and not self.diffusion.finetune_policy
        learning = 0 if stays else self.max_steps * self.online.updates_per_step
        return self.online.num_pretraining_steps + learning

    def settings(self) -> dict[str, Any]:
        """Returns every setting by name, derived ones included, as agents read them."""
        return dataclasses.asdict(self) | {
            "actor_decay_steps": self.actor_decay_steps,
            "diffusion": dataclasses.asdict(self.diffusion or DiffusionSettings()),
        }


def base_config() -> config_dict.ConfigDict:
    """Returns the defaults as a `ConfigDict` for a config file to change."""
    fields = dataclasses.asdict(RunConfig())
    fields["dataset"] = config_dict.placeholder(str)  # a plain None could not be overridden
    del fields["diffusion"]  # only configs of `idql` have it
    del fields["online"]  # only configs for finetuning have it
    return config_dict.ConfigDict(fields)


def add_online(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
    """Returns a config for `train_finetune.py`: with the part `online`, and no decay of rates."""
    fields = dataclasses.asdict(OnlineConfig())
    fields["init_dataset_size"] = config_dict.placeholder(int)
    config.online = config_dict.ConfigDict(fields)
    config.opt_decay_schedule = "none"
    return config


# Sizes of IDQL by name: what differs from `RunConfig` and, inside, from `DiffusionSettings`.
IDQL_RECIPES: dict[str, dict[str, Any]] = {
    "paper": {"batch_size": 2048, "max_steps": 1_500_000, "dropout_rate": 0.1, "diffusion": {}},
    "last_commit": {  # of the authors' code, after the paper
        "batch_size": 512,
        "max_steps": 3_000_000,
        "dropout_rate": 0.1,
        "critic_layer_norm": "value_inputs",
        "diffusion": {
            "activation": "swish",
            "time_dim": 128,
            "time_hidden_dims": (256, 256),
            "weight_decay": 1e-4,
            "policy_updates": 1,
            "critic_batch_size": 512,
        },
    },
    "small": {  # ours, for a computer without a GPU: about IQL's arithmetic
        "batch_size": 256,
        "max_steps": 200_000,
        "diffusion": {
            "hidden_dim": 64,
            "time_dim": 16,
            "time_hidden_dims": (32, 32),
            "ema_rate": 0.005,
            "policy_updates": 1,
            "num_candidates": 32,
        },
    },
}


def idql_config(recipe: str = "paper") -> config_dict.ConfigDict:
    """Returns `base_config()` for the agent `idql`, with the sizes of one of `IDQL_RECIPES`.

    Raises:
      InputError: there is no such recipe.
    """
    if recipe not in IDQL_RECIPES:
        raise InputError(
            f"there is no recipe {recipe!r} of IDQL: choose one of {', '.join(IDQL_RECIPES)}"
        )
    sizes = dict(IDQL_RECIPES[recipe])
    diffusion = DiffusionSettings(**sizes.pop("diffusion"))
    config = base_config()
    config.update(sizes)
    config.agent = "idql"
    config.diffusion = config_dict.ConfigDict(dataclasses.asdict(diffusion))
    return config


def from_config_dict(config: config_dict.ConfigDict, **overrides: Any) -> RunConfig:
    """Returns the validated settings of a config file.

    Args:
      config: what the file returned, after `--config.field=value`.
      **overrides: fields, those of `online` too, set by flags of their own; None leaves the
        config's value.

    Raises:
      InputError: an unknown field or a value that is not allowed.
    """
    fields = dict(config.to_dict())
    given = {name: value for name, value in overrides.items() if value is not None}
    own = {field.name for field in dataclasses.fields(OnlineConfig)}
    online = {name: given.pop(name) for name in own & given.keys()}
    fields |= given
    if fields.get("online") is not None:
        fields["online"] = dict(fields["online"]) | online
    elif online:
        raise InputError(
            f"{min(online)} is for finetuning, and this config has no part 'online'; use "
            "train_finetune.py with a config that has, such as configs/antmaze_finetune.py"
        )
    run_config = from_fields(fields)
    validate(run_config)
    return run_config


def from_fields(fields: Mapping[str, Any]) -> RunConfig:
    """Returns settings whose parts and lists are as JSON or a config file has them.

    Raises:
      InputError: an unknown field.
    """
    fields = dict(fields)
    _check_names(fields, RunConfig)
    fields["hidden_dims"] = tuple(fields["hidden_dims"])
    if fields.get("diffusion") is not None:
        diffusion = dict(fields["diffusion"])
        _check_names(diffusion, DiffusionSettings, "diffusion.")
        if "time_hidden_dims" in diffusion:
            diffusion["time_hidden_dims"] = tuple(diffusion["time_hidden_dims"])
        fields["diffusion"] = DiffusionSettings(**diffusion)
    if fields.get("online") is not None:
        _check_names(fields["online"], OnlineConfig, "online.")
        fields["online"] = OnlineConfig(**fields["online"])
    return RunConfig(**fields)


def _check_names(fields: Iterable[str], settings: type, prefix: str = "") -> None:
    known = [field.name for field in dataclasses.fields(settings)]
    unknown = sorted(set(fields) - set(known))
    if unknown:
        raise InputError(
            f"config field {prefix + unknown[0]!r} does not exist: choose among {', '.join(known)}"
        )


def _validate_online(online: OnlineConfig) -> None:
    for name, least in (
        ("num_pretraining_steps", 0),
        ("updates_per_step", 1),
        ("replay_buffer_size", 1),
        ("warmup_steps", 0),
        ("init_dataset_size", 1),
    ):
        value = getattr(online, name)
        if value is not None and value < least:
            raise InputError(f"{name} is {value}, but must be a count of at least {least}")
    for name in ("exploration_temperature", "action_noise"):
        if not 0 <= getattr(online, name) < math.inf:
            raise InputError(f"{name} is {getattr(online, name)}, but must be a number >= 0")
    if online.sampling not in SAMPLINGS:
        raise InputError(
            f"sampling is {online.sampling!r}, but must be one of {', '.join(SAMPLINGS)}"
        )


def validate(config: RunConfig) -> None:
    """Checks every value against what is allowed.

    Raises:
      InputError: names the field, its value and what is allowed.
    """
    if config.online is not None:
        _validate_online(config.online)
    for name in ("batch_size", "max_steps", "eval_episodes", "eval_interval", "log_interval"):
        _require(config, name, getattr(config, name) >= 1, "a count of at least 1")
    _require(
        config,
        "hidden_dims",
        _are_widths(config.hidden_dims),
        "at least one width, each at least 1",
    )
    _require(config, "num_critics", config.num_critics >= 1, "at least 1")
    _require(config, "dropout_rate", 0 <= config.dropout_rate < 1, "in [0, 1)")
    _require(config, "discount", 0 <= config.discount <= 1, "in [0, 1]")
    _require(config, "bc_coefficient", 0 <= config.bc_coefficient < math.inf, "a number >= 0")
    for name in ("expectile", "quantile"):
        _require(config, name, 0 < getattr(config, name) < 1, "strictly between 0 and 1")
    _require(config, "exponential_alpha", 0 < config.exponential_alpha < math.inf, "above 0")
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
        ("critic_objective", CRITIC_OBJECTIVES),
        ("activation", ACTIVATIONS),
        ("critic_layer_norm", CRITIC_LAYER_NORMS),
        ("policy_distribution", POLICY_DISTRIBUTIONS),
        ("policy_extraction", POLICY_EXTRACTIONS),
    ):
        _require(config, name, getattr(config, name) in allowed, "one of " + ", ".join(allowed))
    if config.policy_distribution == "categorical":
        where = "where policy_distribution is categorical"
        awr, plain = config.policy_extraction == "awr", config.action_transform == "none"
        _require(config, "policy_extraction", awr, f"awr {where}")
        _require(config, "action_transform", plain, f"none {where}")
        _require(config, "agent", config.agent != "idql", "iql or bc for discrete actions")
        if config.online is not None:
            _require(config.online, "action_noise", config.online.action_noise == 0, f"0 {where}")
    if config.diffusion is not None:
        _validate_diffusion(config.diffusion, config.batch_size)


def _validate_diffusion(diffusion: DiffusionSettings, batch_size: int) -> None:
    def require(name: str, holds: bool, allowed: str) -> None:
        _require(diffusion, name, holds, allowed, "diffusion.")

    for name in ("hidden_dim", "num_diffusion_steps", "num_candidates"):
        require(name, getattr(diffusion, name) >= 1, "a count of at least 1")
    require("num_blocks", diffusion.num_blocks >= 0, "a count of at least 0")
    require("time_dim", diffusion.time_dim >= 2 and diffusion.time_dim % 2 == 0, "even, at least 2")
    require("time_hidden_dims", _are_widths(diffusion.time_hidden_dims), "widths of at least 1")
    require("ema_rate", 0 < diffusion.ema_rate <= 1, "in (0, 1]")
    require("weight_decay", 0 <= diffusion.weight_decay < math.inf, "a number >= 0")
    require("softmax_temperature", 0 < diffusion.softmax_temperature < math.inf, "above 0")
    require(
        "policy_updates",
        diffusion.policy_updates >= 1 and batch_size % diffusion.policy_updates == 0,
        f"a count that divides batch_size, which is {batch_size}",
    )
    require(
        "critic_batch_size",
        1 <= diffusion.critic_batch_size <= batch_size,
        f"from 1 to batch_size, which is {batch_size}",
    )
    for name, allowed in (
        ("activation", NOISE_ACTIVATIONS),
        ("schedule", SCHEDULES),
        ("weighting", WEIGHTINGS),
        ("acting_rule", ACTING_RULES),
        ("exploration_rule", ACTING_RULES),
    ):
        require(name, getattr(diffusion, name) in allowed, "one of " + ", ".join(allowed))


def _are_widths(widths: tuple[int, ...]) -> bool:
    return len(widths) > 0 and all(width >= 1 for width in widths)


def _require(settings: Any, name: str, holds: bool, allowed: str, prefix: str = "") -> None:
    if not holds:
        raise InputError(f"{prefix}{name} is {getattr(settings, name)!r}, but must be {allowed}")
