"""IDQL (Hansen-Estruch et al. 2023, https://arxiv.org/abs/2304.10573).

The critic is IQL's, with any of its objectives. The policy is a diffusion model of the behaviour,
trained without the critic; acting draws candidates from it and lets the critic choose.

Our critics start with IQL's orthogonal kernels, where IDQL's code draws xavier-uniform ones.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from iql_jax.agents import diffusion, iql, losses
from iql_jax.agents.diffusion import DiffusionConfig
from iql_jax.agents.functions import q_of, v_of
from iql_jax.agents.iql import CriticState, diagnose
from iql_jax.agents.optim import (
    Learner,
    Metrics,
    Params,
    cosine_decay,
    init_learner,
    minimize,
    polyak,
)
from iql_jax.errors import InputError
from iql_jax.types import Batch

ACTS_IN_ONE_PASS = False  # but by many steps of diffusion for many candidates
ACTING_RULES = ("argmax", "implicit", "softmax")

__all__ = [
    "ACTING_RULES",
    "ACTS_IN_ONE_PASS",
    "ActingConfig",
    "IDQLConfig",
    "IDQLState",
    "acting_by",
    "diagnose",
    "for_online_training",
    "init",
    "make_config",
    "make_hyperparameters",
    "sample_actions",
    "update",
]


@dataclasses.dataclass(frozen=True)
class ActingConfig:
    """How an action is chosen; may differ between evaluations of one trained state.

    Attributes:
      num_candidates: C, actions drawn from the behaviour model for each state.
      acting_rule: `argmax` of min target Q; `implicit`, by the weights of the critic objective's
        implicit policy; `softmax` of min target Q.
      exploration_rule: the same, at temperatures above 0.
      softmax_temperature: Q is divided by it, > 0.
    """

    num_candidates: int
    acting_rule: str
    exploration_rule: str
    softmax_temperature: float


@dataclasses.dataclass(frozen=True)
class IDQLConfig(iql.IQLConfig):
    """What shapes the compiled program, beyond IQL's.

    Attributes:
      diffusion: the behaviour model.
      acting: how an action is chosen; training does not depend on it.
      policy_updates: steps of the policy per update, each on its share of the batch.
      critic_batch_size: the critic learns from so many transitions of the batch.
      weighting: of the policy's loss: `none`, `exponential`, `implicit` or `hard`.
      train_policy: whether an update trains the policy too.
      finetune_policy: the same, in online training.
    """

    diffusion: DiffusionConfig
    acting: ActingConfig
    policy_updates: int
    critic_batch_size: int
    weighting: str
    train_policy: bool
    finetune_policy: bool

    @property
    def layer_widths(self) -> tuple[int, ...]:
        """Widths of the hidden layers of everything that is trained."""
        width = self.diffusion.hidden_dim
        return (*self.hidden_dims, width, 4 * width)


class IDQLHyperparameters(iql.Hyperparameters):
    """Numbers of the algorithm, each f32[], beyond IQL's.

    Attributes:
      ema_rate: share of the new policy in the averaged one at each of its updates.
      weight_decay: of the policy, decoupled as in AdamW.
    """

    ema_rate: jax.Array
    weight_decay: jax.Array


class IDQLState(iql.IQLState):
    """IQL's state, with the behaviour model as its policy.

    Attributes:
      average_policy_params: the slow average of the policy that acts.
    """

    hyper: IDQLHyperparameters
    average_policy_params: Params


def make_config(settings: Mapping[str, Any], observation_dim: int, action_dim: int) -> IDQLConfig:
    """Returns the static configuration for the settings of a config file."""
    critic = iql.make_config(settings, observation_dim, action_dim)
    own = settings["diffusion"]
    shared = {"action_dim": action_dim, "dropout_rate": settings["dropout_rate"]}
    fields = {field.name: getattr(critic, field.name) for field in dataclasses.fields(critic)}
    return IDQLConfig(
        **fields | {"mean_over_critics": True},
        diffusion=_pick(DiffusionConfig, own | shared),
        acting=_pick(ActingConfig, own),
        policy_updates=own["policy_updates"],
        critic_batch_size=own["critic_batch_size"],
        weighting=own["weighting"],
        train_policy=True,
        finetune_policy=own["finetune_policy"],
    )


def _pick(cls: Any, settings: Mapping[str, Any]) -> Any:
    """Returns a dataclass made of those settings that it has fields for."""
    values = {field.name: settings[field.name] for field in dataclasses.fields(cls)}
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def make_hyperparameters(settings: Mapping[str, Any]) -> IDQLHyperparameters:
    """Returns the numeric settings as leaves, with every default of `settings` applied."""
    own = {name: settings["diffusion"][name] for name in ("ema_rate", "weight_decay")}
    return IDQLHyperparameters(
        **{
            field.name: jnp.asarray({**settings, **own}[field.name], jnp.float32)
            for field in dataclasses.fields(IDQLHyperparameters)
        }
    )


def init(config: IDQLConfig, hyper: IDQLHyperparameters, key: jax.Array) -> IDQLState:
    """Returns a fresh state; the averaged policy starts as a copy of the policy."""
    critic_key, policy_key = jax.random.split(key)
    params = diffusion.init(config.diffusion, config.observation_dim, policy_key)
    return IDQLState(
        step=jnp.zeros((), jnp.int32),
        hyper=hyper,
        critic=iql.init_critic(config, critic_key),
        policy=init_learner(params),
        average_policy_params=jax.tree.map(jnp.copy, params),
    )


def update(
    config: IDQLConfig, state: IDQLState, batch: Batch, key: jax.Array
) -> tuple[IDQLState, Metrics]:
    """Returns the state after one update on a batch, and its metrics (each f32[]).

    In the authors' order: the policy on the whole batch, in `policy_updates` parts, weighted (if at
    all) by the old critic; then the critic, on `critic_batch_size` transitions of it. Where they
    take neighbouring rows we take every so many, for in online training one half of a batch is
    lived and the other stored, and a part should have as much of each.

    Args:
      config: shapes.
      state: the state before.
      batch: B transitions; `policy_updates` divides B.
      key: typed PRNG key of noise, diffusion steps and dropout.
    """
    metrics: Metrics = {}
    if config.train_policy:
        state, metrics = update_policy(config, state, batch, key)
    stride = max(1, len(batch.rewards) // config.critic_batch_size)
    critic_batch = jax.tree.map(lambda x: x[::stride][: config.critic_batch_size], batch)
    critic, _, critic_metrics = iql.update_critic(config, state.hyper, state.critic, critic_batch)
    return state.replace(step=state.step + 1, critic=critic), metrics | critic_metrics


def update_policy(
    config: IDQLConfig, state: IDQLState, batch: Batch, key: jax.Array
) -> tuple[IDQLState, Metrics]:
    """Returns the state after the policy's steps down its weighted denoising loss, and metrics."""
    hyper, policy, average = state.hyper, state.policy, state.average_policy_params
    weight = policy_weight(config, hyper, state.critic, batch)
    steps = []
    for i, part_key in enumerate(jax.random.split(key, config.policy_updates)):
        part = slice(i, None, config.policy_updates)
        progress = state.step + i / config.policy_updates
        policy, metrics = _policy_step(
            config,
            policy,
            batch.observations[part],
            batch.actions[part],
            weight[part],
            cosine_decay(hyper.actor_lr, progress, hyper.actor_decay_steps),
            hyper.weight_decay,
            part_key,
        )
        average = polyak(policy.params, average, hyper.ema_rate)
        steps.append(metrics)
    metrics = jax.tree.map(lambda *values: sum(values) / len(values), *steps)
    state = state.replace(policy=policy, average_policy_params=average)
    return state, metrics | {"weight": weight.mean()}


def _policy_step(
    config: IDQLConfig,
    policy: Learner,
    observations: jax.Array,
    actions: jax.Array,
    weight: jax.Array,
    learning_rate: jax.Array,
    weight_decay: jax.Array,
    key: jax.Array,
) -> tuple[Learner, Metrics]:
    def policy_loss_fn(params: Params) -> tuple[jax.Array, Metrics]:
        errors = diffusion.denoising_loss(config.diffusion, params, observations, actions, key)
        loss = (weight * errors).mean()
        return loss, {"actor_loss": loss}

    return minimize(policy_loss_fn, policy, learning_rate, weight_decay)


def policy_weight(
    config: IDQLConfig, hyper: IDQLHyperparameters, critic: CriticState, batch: Batch
) -> jax.Array:
    """Returns the weight of each transition in the policy's loss: f32[B] >= 0.

    All ones in IDQL proper. The others are the ablation of the authors' code: they let the policy
    itself prefer better actions. All are bounded, as IQL's is, so that no outlier dominates.
    """
    if config.weighting == "none":
        return jnp.ones_like(batch.rewards)
    q = min_target_q(config, critic, batch.observations, batch.actions)
    adv = q - v_of(config, critic.value.params, batch.observations)
    if config.weighting == "exponential":
        return losses.awr_weight(adv, hyper.temperature)
    if config.weighting == "implicit":
        weight = losses.implicit_weight(config.critic_objective, adv, hyper)
        return jnp.minimum(weight, losses.MAX_WEIGHT)
    assert config.weighting == "hard", config.weighting
    return (adv >= -0.01).astype(jnp.float32)  # the authors' margin


def sample_actions(
    config: IDQLConfig,
    state: IDQLState,
    observations: jax.Array,
    key: jax.Array,
    *,
    temperature: jax.Array | float,
) -> jax.Array:
    """Returns actions f32[B, A] in [-1, 1]: for each state the one chosen of C candidates.

    Args:
      config: shapes, and how to choose.
      state: the trained state.
      observations: f32[B, O].
      key: typed PRNG key of the candidates and the choice.
      temperature: 0 chooses by `acting_rule` (evaluation), above 0 by `exploration_rule`.
    """
    acting = config.acting
    candidate_key, choice_key = jax.random.split(key)
    candidates = diffusion.sample(
        config.diffusion,
        state.average_policy_params,
        observations,
        acting.num_candidates,
        candidate_key,
    )
    log_weight = log_choice_weight(config, acting.acting_rule, state, observations, candidates)
    if acting.exploration_rule != acting.acting_rule:
        exploring = log_choice_weight(
            config, acting.exploration_rule, state, observations, candidates
        )
        log_weight = jnp.where(temperature > 0, exploring, log_weight)
    index = jax.random.categorical(choice_key, log_weight)  # [B]
    return jnp.take_along_axis(candidates, index[:, None, None], axis=1)[:, 0]


def log_choice_weight(
    config: IDQLConfig,
    rule: str,
    state: IDQLState,
    observations: jax.Array,
    candidates: jax.Array,
) -> jax.Array:
    """Returns the log of each candidate's chance to be chosen, up to a constant: f32[B, C].

    Args:
      config: shapes.
      rule: `argmax` (0 for the best, minus infinity for others), `implicit` or `softmax`.
      state: the trained state.
      observations: f32[B, O].
      candidates: f32[B, C, A].
    """
    # The middle axis has one entry for all candidates, so the first layer sees a state once.
    q = min_target_q(config, state.critic, observations[:, None], candidates)
    if rule == "argmax":
        best = jnp.arange(q.shape[1])[None] == q.argmax(axis=1)[:, None]
        return jnp.where(best, 0.0, -jnp.inf)
    if rule == "softmax":
        return q / config.acting.softmax_temperature
    assert rule == "implicit", rule
    v = v_of(config, state.critic.value.params, observations)
    return jnp.log(losses.implicit_weight(config.critic_objective, q - v[:, None], state.hyper))


def min_target_q(
    config: IDQLConfig, critic: CriticState, observations: jax.Array, actions: jax.Array
) -> jax.Array:
    """Returns the least target Q(s, a): f32[...]."""
    return q_of(config, critic.target_q_params, observations, actions).min(axis=0)


def acting_by(
    config: IDQLConfig, num_candidates: int, acting_rule: str | None = None
) -> IDQLConfig:
    """Returns the configuration with another way to act, for any state trained with `config`.

    Args:
      config: the configuration of the state.
      num_candidates: C.
      acting_rule: how one is chosen; None for the configuration's own.

    Raises:
      InputError: a count below 1 or an unknown rule.
    """
    if num_candidates < 1:
        raise InputError(f"num_candidates is {num_candidates}, but must be at least 1")
    if acting_rule not in (None, *ACTING_RULES):
        raise InputError(
            f"acting_rule is {acting_rule!r}, but must be one of {', '.join(ACTING_RULES)}"
        )
    rule = config.acting.acting_rule if acting_rule is None else acting_rule
    acting = dataclasses.replace(config.acting, num_candidates=num_candidates, acting_rule=rule)
    return dataclasses.replace(config, acting=acting)


def for_online_training(config: IDQLConfig) -> IDQLConfig:
    """Returns the configuration for updates online, where `finetune_policy` decides."""
    return dataclasses.replace(config, train_policy=config.finetune_policy)
