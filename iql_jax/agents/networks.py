"""The networks, as the authors build them: ReLU MLPs with orthogonal kernels and zero biases.

Kernels of every layer, heads included, are orthogonal with gain sqrt(2).
"""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

LOG_STD_MIN = -5.0
LOG_STD_MAX = 2.0


def dense(features: int, name: str | None = None) -> nn.Dense:
    """Returns a dense layer with the authors' initialisation."""
    return nn.Dense(features, kernel_init=nn.initializers.orthogonal(math.sqrt(2)), name=name)


class MLP(nn.Module):
    """Hidden layers f32[..., I] -> f32[..., hidden_dims[-1]], an activation after each.

    Attributes:
      hidden_dims: the width of each layer.
      dropout_rate: share of units dropped after each activation while training; 0 is none.
    """

    hidden_dims: tuple[int, ...]
    dropout_rate: float = 0.0
    activation: Callable[[jax.Array], jax.Array] = nn.relu

    @nn.compact
    def __call__(self, inputs: jax.Array, training: bool = False) -> jax.Array:
        hidden = inputs
        for width in self.hidden_dims:
            hidden = self.activation(dense(width)(hidden))
            if self.dropout_rate > 0:
                hidden = nn.Dropout(self.dropout_rate)(hidden, deterministic=not training)
        return hidden


class GaussianPolicy(nn.Module):
    """Mean f32[..., A] in (-1, 1) and log standard deviation f32[A], free of the state."""

    hidden_dims: tuple[int, ...]
    action_dim: int
    dropout_rate: float = 0.0

    @nn.compact
    def __call__(
        self, observations: jax.Array, training: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        hidden = MLP(self.hidden_dims, self.dropout_rate)(observations, training)
        mean = jnp.tanh(dense(self.action_dim, name="mean")(hidden))
        log_std = self.param("log_std", nn.initializers.zeros, (self.action_dim,))
        return mean, jnp.clip(log_std, LOG_STD_MIN, LOG_STD_MAX)


class ValueFunction(nn.Module):
    """V(s): f32[..., O] -> f32[...]."""

    hidden_dims: tuple[int, ...]

    @nn.compact
    def __call__(self, observations: jax.Array) -> jax.Array:
        hidden = MLP(self.hidden_dims)(observations)
        return jnp.squeeze(dense(1, name="head")(hidden), -1)


class QEnsemble(nn.Module):
    """Q_1(s, a) ... Q_E(s, a), independent networks: f32[..., O], f32[..., A] -> f32[E, ...].

    The members are separate layers, not one batched product: on CPUs a batched product of this
    size is slower, and on GPUs XLA launches no fewer kernels for it.
    """

    hidden_dims: tuple[int, ...]
    num_critics: int

    @nn.compact
    def __call__(self, observations: jax.Array, actions: jax.Array) -> jax.Array:
        inputs = jnp.concatenate([observations, actions], axis=-1)
        return jnp.stack(
            [ValueFunction(self.hidden_dims, name=f"q{i}")(inputs) for i in range(self.num_critics)]
        )
