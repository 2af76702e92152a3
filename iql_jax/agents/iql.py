"""Implicit Q-Learning (Kostrikov, Nair and Levine 2021, https://arxiv.org/abs/2110.06169).

`update` is the whole algorithm: V by expectile regression, both Q by a mean squared error, the
target Q by Polyak averaging, and the policy by advantage-weighted regression.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import flax.struct
import jax
import jax.numpy as jnp

from iql_jax.agents import losses, networks
from iql_jax.agents.optim import (
    Learner,
    Metrics,
    Params,
    cosine_decay,
    init_learner,
    minimize,
    polyak,
)
from iql_jax.types import Batch

Network = Callable[..., Any]  # params, inputs -> outputs; Flax types them too loosely to check


@dataclasses.dataclass(frozen=True)
class IQLConfig:
    """What shapes the compiled program; numbers that do not are in `Hyperparameters`.

    Attributes:
      observation_dim, action_dim: O and A.
      hidden_dims: widths of the hidden layers of every network.
      num_critics: E, how many Q networks the minimum is over.
      dropout_rate: in the policy's hidden layers.
      critic_objective: V's loss, one of `losses.CRITIC_OBJECTIVES`.
      mean_over_critics: whether the Q loss is the mean over critics, as in IDQL's code, and not
        the sum, as in IQL's. Adam takes the same steps up to its epsilon.
    """

    observation_dim: int
    action_dim: int
    hidden_dims: tuple[int, ...]
    num_critics: int
    dropout_rate: float
    critic_objective: str
    mean_over_critics: bool


class Hyperparameters(flax.struct.PyTreeNode):
    """Numbers of the algorithm, each f32[]; leaves of the state, so members can differ in them.

    Attributes:
      discount: in [0, 1].
      expectile: the paper's tau, in (0, 1); of the expectile objective.
      quantile: in (0, 1); of the quantile objective.
      exponential_alpha: > 0; of the exponential objective.
      temperature: the paper's beta, an inverse temperature >= 0.
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
      policy: the Gaussian policy.
    """

    step: jax.Array
    hyper: Hyperparameters
    critic: CriticState
    policy: Learner


def make_config(settings: Mapping[str, Any], observation_dim: int, action_dim: int) -> IQLConfig:
    """Returns the static configuration for the settings of a config file."""
    return IQLConfig(
        observation_dim=observation_dim,
        action_dim=action_dim,
        hidden_dims=tuple(settings["hidden_dims"]),
        num_critics=settings["num_critics"],
        dropout_rate=settings["dropout_rate"],
        critic_objective=settings["critic_objective"],
        mean_over_critics=False,
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
    weight = losses.awr_weight(adv, hyper.temperature)
    actor_lr = cosine_decay(hyper.actor_lr, state.step, hyper.actor_decay_steps)
    policy, policy_metrics = update_policy(config, state.policy, batch, weight, actor_lr, key)
    metrics = critic_metrics | policy_metrics | {"weight": weight.mean()}
    return state.replace(step=state.step + 1, critic=critic, policy=policy), metrics


def update_critic(
    config: IQLConfig, hyper: Hyperparameters, critic: CriticState, batch: Batch
) -> tuple[CriticState, jax.Array, Metrics]:
    """Returns the new critic, the advantages f32[B] for the policy, and metrics.

    In the authors' order: V onto the old target Q; both Q onto the new V; target Q onto the new Q.
    The advantage, min target Q(s, a) - V(s), is of the old target Q and the new V.
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
        return loss, {"critic_loss": loss, "q": q.mean()}

    q, q_metrics = minimize(q_loss_fn, critic.q, hyper.critic_lr)
    target_q_params = polyak(q.params, critic.target_q_params, hyper.target_update_rate)

    adv = target_q - v
    metrics = value_metrics | q_metrics | {"adv": adv.mean()}
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
    policy_of: Network = _gaussian_policy(config).apply
    rngs = {"dropout": key} if config.dropout_rate > 0 else None

    def policy_loss_fn(params: Params) -> tuple[jax.Array, Metrics]:
        mean, log_std = policy_of(params, batch.observations, training=True, rngs=rngs)
        log_prob = losses.gaussian_log_prob(batch.actions, mean, log_std)
        loss = -(weight * log_prob).mean()
        return loss, {"actor_loss": loss, "log_prob": log_prob.mean()}

    return minimize(policy_loss_fn, policy, learning_rate)


class HasPolicy(Protocol):
    """Any state with a Gaussian policy."""

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
    """Returns actions f32[B, A] in [-1, 1]: the mean plus `temperature`-scaled noise, clipped.

    Args:
      config: shapes.
      state: the trained state.
      observations: f32[B, O].
      key: typed PRNG key of the noise.
      temperature: 0 acts by the mean (evaluation), 1 samples the policy (exploration).
    """
    policy_of: Network = _gaussian_policy(config).apply
    mean, log_std = policy_of(state.policy.params, observations)
    noise = jax.random.normal(key, mean.shape)
    return jnp.clip(mean + temperature * jnp.exp(log_std)[None] * noise, -1.0, 1.0)


class HasCritic(Protocol):
    """Any state with V and Q."""

    @property
    def critic(self) -> CriticState: ...


def diagnose(config: IQLConfig, state: HasCritic, batch: Batch) -> dict[str, jax.Array]:
    """Returns what the critic thinks of each transition, for histograms: f32[B] by name.

    `q` is the least Q(s, a), `v` is V(s), and `adv` what the policy's weights come from: the least
    target Q(s, a) minus V(s).

    Args:
      config: shapes.
      state: the trained state.
      batch: B transitions.
    """
    critic = state.critic
    q = q_of(config, critic.q.params, batch.observations, batch.actions).min(axis=0)
    target_q = q_of(config, critic.target_q_params, batch.observations, batch.actions).min(axis=0)
    v = v_of(config, critic.value.params, batch.observations)
    return {"adv": target_q - v, "q": q, "v": v}


def v_of(config: IQLConfig, params: Params, observations: jax.Array) -> jax.Array:
    """Returns V(s): f32[...] for observations f32[..., O]."""
    network: Network = _value_function(config).apply
    return network(params, observations)


def q_of(
    config: IQLConfig, params: Params, observations: jax.Array, actions: jax.Array
) -> jax.Array:
    """Returns every critic's Q(s, a): f32[E, ...] for observations f32[..., O]."""
    network: Network = _q_ensemble(config).apply
    return network(params, observations, actions)


def log_prob_of(config: IQLConfig, state: HasPolicy, batch: Batch) -> jax.Array:
    """Returns log pi(a|s) of each transition: f32[B]."""
    policy_of: Network = _gaussian_policy(config).apply
    mean, log_std = policy_of(state.policy.params, batch.observations)
    return losses.gaussian_log_prob(batch.actions, mean, log_std)


def init_critic(config: IQLConfig, key: jax.Array) -> CriticState:
    """Returns fresh V and Q, and the target Q as a copy of Q."""
    value_key, q_key = jax.random.split(key)
    observations = jnp.zeros((1, config.observation_dim))
    actions = jnp.zeros((1, config.action_dim))
    q_params = _q_ensemble(config).init(q_key, observations, actions)
    return CriticState(
        value=init_learner(_value_function(config).init(value_key, observations)),
        q=init_learner(q_params),
        target_q_params=jax.tree.map(jnp.copy, q_params),  # its own buffers: states are donated
    )


def init_policy(config: IQLConfig, key: jax.Array) -> Learner:
    """Returns a fresh Gaussian policy."""
    observations = jnp.zeros((1, config.observation_dim))
    return init_learner(_gaussian_policy(config).init(key, observations))


def _value_function(config: IQLConfig) -> networks.ValueFunction:
    return networks.ValueFunction(config.hidden_dims)


def _q_ensemble(config: IQLConfig) -> networks.QEnsemble:
    return networks.QEnsemble(config.hidden_dims, config.num_critics)


def _gaussian_policy(config: IQLConfig) -> networks.GaussianPolicy:
    return networks.GaussianPolicy(config.hidden_dims, config.action_dim, config.dropout_rate)
