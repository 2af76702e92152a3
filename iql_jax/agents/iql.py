"""Implicit Q-Learning (Kostrikov, Nair and Levine 2021, https://arxiv.org/abs/2110.06169).

`update` is the whole algorithm: V by expectile regression, both Q by a mean squared error, the
target Q by Polyak averaging, and the policy by advantage-weighted regression.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NoReturn, Protocol

import flax.struct
import jax
import jax.numpy as jnp

from iql_jax.agents import losses
from iql_jax.agents.functions import (
    NetworkConfig,
    init_policy_params,
    init_q,
    init_v,
    policy_of,
    q_of,
    v_of,
)
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

ACTS_IN_ONE_PASS = True


@dataclasses.dataclass(frozen=True)
class IQLConfig(NetworkConfig):
    """What shapes the compiled program; numbers that do not are in `Hyperparameters`.

    Attributes:
      critic_objective: V's loss, one of `losses.CRITIC_OBJECTIVES`.
      mean_over_critics: whether the Q loss is the mean over critics, as in IDQL's code, and not
        the sum, as in IQL's. Adam takes the same steps up to its epsilon.
      online_advantage: whether advantages are those of Q, as in OGBench's code, and not of the
        target Q, as in the authors'.
      policy_extraction: `awr` or `ddpg_bc`.
    """

    critic_objective: str
    mean_over_critics: bool
    online_advantage: bool
    policy_extraction: str


class Hyperparameters(flax.struct.PyTreeNode):
    """Numbers of the algorithm, each f32[]; leaves of the state, so members can differ in them.

    Attributes:
      discount: in [0, 1].
      expectile: the paper's tau, in (0, 1); of the expectile objective.
      quantile: in (0, 1); of the quantile objective.
      exponential_alpha: > 0; of the exponential objective.
      temperature: the paper's beta, an inverse temperature >= 0.
      bc_coefficient: of the data's log-likelihood in DDPG+BC, >= 0.
      target_update_rate: share of the new Q in the target Q at each update, in [0, 1].
      actor_lr: learning rate of the policy's first update.
      critic_lr: learning rate of both Q.
      value_lr: learning rate of V.
      actor_decay_steps: updates after which the policy's rate has fallen to 0; infinity for never.
    """

    discount: jax.Array
    expectile: jax.Array
    quantile: jax.Array
    exponential_alpha: jax.Array
    temperature: jax.Array
    bc_coefficient: jax.Array
    target_update_rate: jax.Array
    actor_lr: jax.Array
    critic_lr: jax.Array
    value_lr: jax.Array
    actor_decay_steps: jax.Array


class CriticState(flax.struct.PyTreeNode):
    """V, the Q ensemble and its slow copy."""

    value: Learner
    q: Learner
    target_q_params: Params


class IQLState(flax.struct.PyTreeNode):
    """Everything that training changes, and the numbers that steer it.

    Attributes:
      step: i32[], updates done so far.
      hyper: the numbers of the algorithm.
      critic: V, Q and target Q.
      policy: the policy.
    """

    step: jax.Array
    hyper: Hyperparameters
    critic: CriticState
    policy: Learner


# Fields of `IQLConfig` that are settings of the same name.
_SETTINGS = (
    "num_critics",
    "dropout_rate",
    "activation",
    "critic_layer_norm",
    "policy_distribution",
    "critic_objective",
    "online_advantage",
    "policy_extraction",
)


def make_config(settings: Mapping[str, Any], observation_dim: int, action_dim: int) -> IQLConfig:
    """Returns the static configuration for the settings of a config file."""
    return IQLConfig(
        observation_dim=observation_dim,
        action_dim=action_dim,
        hidden_dims=tuple(settings["hidden_dims"]),
        mean_over_critics=False,
        **{name: settings[name] for name in _SETTINGS},
    )


def make_hyperparameters(settings: Mapping[str, Any]) -> Hyperparameters:
    """Returns the numeric settings as leaves, with every default of `settings` applied."""
    return Hyperparameters(
        **{
            field.name: jnp.asarray(settings[field.name], jnp.float32)
            for field in dataclasses.fields(Hyperparameters)
        }
    )


def init(config: IQLConfig, hyper: Hyperparameters, key: jax.Array) -> IQLState:
    """Returns a fresh state; the target Q starts as a copy of Q.

    Args:
      config: shapes.
      hyper: numbers of the algorithm.
      key: typed PRNG key.
    """
    critic_key, policy_key = jax.random.split(key)
    return IQLState(
        step=jnp.zeros((), jnp.int32),
        hyper=hyper,
        critic=init_critic(config, critic_key),
        policy=init_policy(config, policy_key),
    )


def update(
    config: IQLConfig, state: IQLState, batch: Batch, key: jax.Array
) -> tuple[IQLState, Metrics]:
    """Returns the state after one update on a batch, and its metrics (each f32[]).

    Args:
      config: shapes.
      state: the state before.
      batch: B transitions.
      key: typed PRNG key, used for dropout alone.
    """
    hyper = state.hyper
    critic, adv, critic_metrics = update_critic(config, hyper, state.critic, batch)
    actor_lr = cosine_decay(hyper.actor_lr, state.step, hyper.actor_decay_steps)
    if config.policy_extraction == "awr":
        weight = losses.awr_weight(adv, hyper.temperature)
        policy, policy_metrics = update_policy(config, state.policy, batch, weight, actor_lr, key)
    else:
        policy, policy_metrics = update_policy_up_q(
            config, state.policy, critic.q.params, batch, hyper.bc_coefficient, actor_lr, key
        )
    state = state.replace(step=state.step + 1, critic=critic, policy=policy)
    return state, critic_metrics | policy_metrics


def update_critic(
    config: IQLConfig, hyper: Hyperparameters, critic: CriticState, batch: Batch
) -> tuple[CriticState, jax.Array, Metrics]:
    """Returns the new critic, the advantages f32[B] for the policy, and metrics.

    In the authors' order: V onto the old target Q; both Q onto the new V; target Q onto the new Q.
    The advantage, min target Q(s, a) - V(s), is of the old target Q and the new V; where
    `online_advantage` is set, of the Q before its step, which costs nothing here.
    """
    target_q = q_of(config, critic.target_q_params, batch.observations, batch.actions).min(axis=0)

    def value_loss_fn(params: Params) -> tuple[jax.Array, Metrics]:
        v = v_of(config, params, batch.observations)
        loss = losses.value_loss(config.critic_objective, target_q - v, hyper).mean()
        return loss, {"value_loss": loss, "v": v.mean()}

    value, value_metrics = minimize(value_loss_fn, critic.value, hyper.value_lr)

    # One pass of the new V over s and s' together.
    both = jnp.concatenate([batch.observations, batch.next_observations])
    v, next_v = jnp.split(v_of(config, value.params, both), 2)
    td_target = batch.rewards + hyper.discount * batch.masks * next_v

    def q_loss_fn(params: Params) -> tuple[jax.Array, Metrics]:
        q = q_of(config, params, batch.observations, batch.actions)  # [E, B]
        td_error = (q - td_target[None]) ** 2
        loss = td_error.mean() if config.mean_over_critics else td_error.sum(axis=0).mean()
        return loss, {"critic_loss": loss, "q": q}

    q, q_metrics = minimize(q_loss_fn, critic.q, hyper.critic_lr)
    old_q = q_metrics["q"]
    target_q_params = polyak(q.params, critic.target_q_params, hyper.target_update_rate)

    adv = (old_q.min(axis=0) if config.online_advantage else target_q) - v
    metrics = value_metrics | q_metrics | {"q": old_q.mean(), "adv": adv.mean()}
    return CriticState(value=value, q=q, target_q_params=target_q_params), adv, metrics


def update_policy(
    config: IQLConfig,
    policy: Learner,
    batch: Batch,
    weight: jax.Array,
    learning_rate: jax.Array,
    key: jax.Array,
) -> tuple[Learner, Metrics]:
    """Returns the policy after one step up weight * log pi(a|s), equation (7), and metrics.

    Args:
      config: shapes.
      policy: the policy before.
      batch: B transitions.
      weight: f32[B] >= 0; all ones is behaviour cloning.
      learning_rate: f32[].
      key: typed PRNG key for dropout.
    """

    def policy_loss_fn(params: Params) -> tuple[jax.Array, Metrics]:
        log_prob = policy_of(config, params, batch.observations, key).log_prob(batch.actions)
        loss = -(weight * log_prob).mean()
        return loss, {
            "actor_loss": loss,
            "log_prob": log_prob.mean(),
            "weight": weight.mean(),
        }

    return minimize(policy_loss_fn, policy, learning_rate)


def update_policy_up_q(
    config: IQLConfig,
    policy: Learner,
    q_params: Params,
    batch: Batch,
    bc_coefficient: jax.Array,
    learning_rate: jax.Array,
    key: jax.Array,
) -> tuple[Learner, Metrics]:
    """Returns the policy after one step of DDPG+BC, and metrics.

    Up the least Q(s, pi(s)) and the likelihood of the data: Park et al. 2024,
    https://arxiv.org/abs/2406.09329.

    Args:
      config: shapes.
      policy: the policy before.
      q_params: of every Q; they stay.
      batch: B transitions.
      bc_coefficient: f32[] >= 0, of the log-likelihood.
      learning_rate: f32[].
      key: typed PRNG key for dropout, and for actions where the standard deviation is learned.
    """
    dropout_key, action_key = jax.random.split(key)

    def policy_loss_fn(params: Params) -> tuple[jax.Array, Metrics]:
        pi = policy_of(config, params, batch.observations, dropout_key)
        constant_std = config.policy_distribution == "constant_std"
        actions = pi.mode() if constant_std else pi.sample(action_key, 1.0)
        q = q_of(config, q_params, batch.observations, actions).min(axis=0)
        log_prob = pi.log_prob(batch.actions)
        loss = losses.ddpg_bc_loss(q, log_prob, bc_coefficient).mean()
        return loss, {"actor_loss": loss, "log_prob": log_prob.mean(), "policy_q": q.mean()}

    return minimize(policy_loss_fn, policy, learning_rate)


class HasPolicy(Protocol):
    """Any state with a policy."""

    @property
    def policy(self) -> Learner: ...


def sample_actions(
    config: IQLConfig,
    state: HasPolicy,
    observations: jax.Array,
    key: jax.Array,
    *,
    temperature: jax.Array | float,
) -> jax.Array:
    """Returns actions f32[B, A] in [-1, 1] of the policy; one-hot where they are discrete.

    Args:
      config: shapes.
      state: the trained state.
      observations: f32[B, O].
      key: typed PRNG key of the noise.
      temperature: 0 acts by the likeliest action (evaluation), 1 samples (exploration).
    """
    return policy_of(config, state.policy.params, observations).sample(key, temperature)


def acting_by(config: IQLConfig, num_candidates: int, acting_rule: str | None = None) -> NoReturn:
    """Returns nothing: there are no candidates to choose from.

    Raises:
      InputError: always.
    """
    del config, num_candidates, acting_rule
    raise InputError(
        "candidates are drawn by the agent idql alone; leave out --eval_candidates, or train with "
        "--config=configs/idql_antmaze.py"
    )


def for_online_training(config: IQLConfig) -> IQLConfig:
    """Returns the configuration for updates while acting: the same."""
    return config


def log_prob_of(config: IQLConfig, state: HasPolicy, batch: Batch) -> jax.Array:
    """Returns log pi(a|s) of each transition: f32[B]."""
    return policy_of(config, state.policy.params, batch.observations).log_prob(batch.actions)


class HasCritic(Protocol):
    """Any state with V and Q."""

    @property
    def critic(self) -> CriticState: ...


def diagnose(config: IQLConfig, state: HasCritic, batch: Batch) -> dict[str, jax.Array]:
    """Returns what the critic thinks of each transition, for histograms: f32[B] by name.

    `q` is the least Q(s, a), `v` is V(s), and `adv` what the policy's weights come from: the least
    target Q(s, a), or Q(s, a) where `online_advantage` is set, minus V(s).

    Args:
      config: shapes.
      state: the trained state.
      batch: B transitions.
    """
    critic = state.critic
    q = q_of(config, critic.q.params, batch.observations, batch.actions).min(axis=0)
    target_q = q_of(config, critic.target_q_params, batch.observations, batch.actions).min(axis=0)
    v = v_of(config, critic.value.params, batch.observations)
    return {"adv": (q if config.online_advantage else target_q) - v, "q": q, "v": v}


def init_critic(config: IQLConfig, key: jax.Array) -> CriticState:
    """Returns fresh V and Q, and the target Q as a copy of Q."""
    value_key, q_key = jax.random.split(key)
    q_params = init_q(config, q_key)
    return CriticState(
        value=init_learner(init_v(config, value_key)),
        q=init_learner(q_params),
        target_q_params=jax.tree.map(jnp.copy, q_params),  # its own buffers: states are donated
    )


def init_policy(config: IQLConfig, key: jax.Array) -> Learner:
    """Returns a fresh policy."""
    return init_learner(init_policy_params(config, key))
