"""The networks, as the authors build them: ReLU MLPs with orthogonal kernels and zero biases.

Kernels of every layer, heads included, are orthogonal with gain sqrt(2).
"""

import functools
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

LOG_STD_MIN = -5.0
LOG_STD_MAX = 2.0


_orthogonal = nn.initializers.orthogonal(math.sqrt(2))


class JointDense(nn.Module):
    """A dense layer on inputs side by side: f32[..., I1], f32[..., I2], ... -> f32[..., features].

    Inputs of different leading shapes, such as a state f32[B, 1, O] and its candidate actions
    f32[B, C, A], are not repeated to one shape: each is multiplied by its own rows of the kernel,
    and the products are broadcast, which is the same up to float reassociation.
    """

    features: int

    @nn.compact
    def __call__(self, *inputs: jax.Array) -> jax.Array:
        widths = [x.shape[-1] for x in inputs]
        kernel = self.param("kernel", _orthogonal, (sum(widths), self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        bias = bias.reshape((1,) * (inputs[0].ndim - 1) + (-1,))
        if len({x.shape[:-1] for x in inputs}) == 1:
            return jnp.concatenate(inputs, axis=-1) @ kernel + bias
        rows = jnp.split(kernel, np.cumsum(widths)[:-1])
        products = [x @ part for x, part in zip(inputs, rows, strict=True)]
        return functools.reduce(jnp.add, products) + bias


def dense(features: int, name: str | None = None) -> JointDense:
    """Returns a dense layer with the authors' initialisation."""
    return JointDense(features, name=name)


class MLP(nn.Module):
    """Hidden layers f32[..., I], ... -> f32[..., hidden_dims[-1]], an activation after each.

    Several inputs enter the first layer side by side.

    Attributes:
      hidden_dims: the width of each layer.
      dropout_rate: share of units dropped after each activation while training; 0 is none.
    """

    hidden_dims: tuple[int, ...]
    dropout_rate: float = 0.0
    activation: Callable[[jax.Array], jax.Array] = nn.relu

    @nn.compact
    def __call__(self, *inputs: jax.Array, training: bool = False) -> jax.Array:
        hidden = inputs
        for i, width in enumerate(self.hidden_dims):
            layer = self.activation(dense(width, name=f"Dense_{i}")(*hidden))
            if self.dropout_rate > 0:
                layer = nn.Dropout(self.dropout_rate)(layer, deterministic=not training)
            hidden = (layer,)
        return hidden[0]


class GaussianPolicy(nn.Module):
    """Mean f32[..., A] in (-1, 1) and log standard deviation f32[A], free of the state."""

    hidden_dims: tuple[int, ...]
    action_dim: int
    dropout_rate: float = 0.0

    @nn.compact
    def __call__(
        self, observations: jax.Array, training: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        hidden = MLP(self.hidden_dims, self.dropout_rate)(observations, training=training)
        mean = jnp.tanh(dense(self.action_dim, name="mean")(hidden))
        log_std = self.param("log_std", nn.initializers.zeros, (self.action_dim,))
        return mean, jnp.clip(log_std, LOG_STD_MIN, LOG_STD_MAX)


class ValueFunction(nn.Module):
    """V(s): f32[..., O] -> f32[...]; or one Q(s, a), of two inputs."""

    hidden_dims: tuple[int, ...]

    @nn.compact
    def __call__(self, *inputs: jax.Array) -> jax.Array:
        hidden = MLP(self.hidden_dims)(*inputs)
        return jnp.squeeze(dense(1, name="head")(hidden), -1)


class QEnsemble(nn.Module):
    """Q_1(s, a) ... Q_E(s, a), independent networks: f32[..., O], f32[..., A] -> f32[E, ...].

    States f32[B, 1, O] with candidates f32[B, C, A] give f32[E, B, C].

    The members are separate layers, not one batched product: on CPUs a batched product of this
    size is slower, and on GPUs XLA launches no fewer kernels for it.
    """

    hidden_dims: tuple[int, ...]
    num_critics: int

    @nn.compact
    def __call__(self, observations: jax.Array, actions: jax.Array) -> jax.Array:
        networks = [ValueFunction(self.hidden_dims, name=f"q{i}") for i in range(self.num_critics)]
        return jnp.stack([network(observations, actions) for network in networks])
