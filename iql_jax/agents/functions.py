"""V, Q and the policy of a configuration, as functions of their parameters."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from iql_jax.agents import networks
from iql_jax.agents.distributions import Distribution
from iql_jax.agents.optim import Params

Network = Callable[..., Any]  # params, inputs -> outputs; Flax types them too loosely to check


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """What shapes the networks.

    Attributes:
      observation_dim, action_dim: O and A; A is the number of choices where actions are discrete.
      hidden_dims: widths of the hidden layers of every network.
      num_critics: E, how many Q networks the minimum is over.
      dropout_rate: in the policy's hidden layers.
      activation: `relu` or `gelu`.
      critic_layer_norm: `none`, `hidden` or `value_inputs`.
      policy_distribution: `gaussian`, `constant_std` or `categorical`.
    """

    observation_dim: int
    action_dim: int
    hidden_dims: tuple[int, ...]
    num_critics: int
    dropout_rate: float
    activation: str
    critic_layer_norm: str
    policy_distribution: str

    @property
    def layer_widths(self) -> tuple[int, ...]:
        """Widths of the hidden layers of everything that is trained."""
        return self.hidden_dims


def v_of(config: NetworkConfig, params: Params, observations: jax.Array) -> jax.Array:
    """Returns V(s): f32[...] for observations f32[..., O]."""
    network: Network = _value_function(config).apply
    return network(params, observations)


def q_of(
    config: NetworkConfig, params: Params, observations: jax.Array, actions: jax.Array
) -> jax.Array:
    """Returns every critic's Q(s, a): f32[E, ...] for observations f32[..., O]."""
    network: Network = _q_ensemble(config).apply
    return network(params, observations, actions)


def policy_of(
    config: NetworkConfig,
    params: Params,
    observations: jax.Array,
    dropout_key: jax.Array | None = None,
) -> Distribution:
    """Returns the policy's distribution for observations f32[..., O].

    Args:
      config: shapes.
      params: of the policy.
      observations: f32[..., O].
      dropout_key: typed PRNG key that units are dropped by while training; None while acting.
    """
    network: Network = _policy(config).apply
    if dropout_key is None or config.dropout_rate == 0:
        return network(params, observations)
    return network(params, observations, training=True, rngs={"dropout": dropout_key})


def init_v(config: NetworkConfig, key: jax.Array) -> Params:
    """Returns fresh parameters of V."""
    return _value_function(config).init(key, jnp.zeros((1, config.observation_dim)))


def init_q(config: NetworkConfig, key: jax.Array) -> Params:
    """Returns fresh parameters of every Q."""
    observations = jnp.zeros((1, config.observation_dim))
    return _q_ensemble(config).init(key, observations, jnp.zeros((1, config.action_dim)))


def init_policy_params(config: NetworkConfig, key: jax.Array) -> Params:
    """Returns fresh parameters of the policy."""
    return _policy(config).init(key, jnp.zeros((1, config.observation_dim)))


def _value_function(config: NetworkConfig) -> networks.ValueFunction:
    return networks.ValueFunction(
        config.hidden_dims,
        config.activation,
        layer_norm=config.critic_layer_norm == "hidden",
        norm_inputs=config.critic_layer_norm == "value_inputs",
    )


def _q_ensemble(config: NetworkConfig) -> networks.QEnsemble:
    return networks.QEnsemble(
        config.hidden_dims,
        config.num_critics,
        config.activation,
        layer_norm=config.critic_layer_norm == "hidden",
    )


def _policy(config: NetworkConfig) -> networks.GaussianPolicy | networks.CategoricalPolicy:
    shape = (config.hidden_dims, config.action_dim, config.dropout_rate, config.activation)
    if config.policy_distribution == "categorical":
        return networks.CategoricalPolicy(*shape)
    constant_std = config.policy_distribution == "constant_std"
    return networks.GaussianPolicy(*shape, constant_std=constant_std)
