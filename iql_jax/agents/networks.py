"""The networks, as the authors build them: ReLU MLPs with orthogonal kernels and zero biases.

Kernels of every layer, heads included, are orthogonal with gain sqrt(2). Options are those of
OGBench's recipe (https://arxiv.org/abs/2410.20092): GELU, LayerNorm in the critics, and a policy
with a standard deviation of 1, whose mean starts near 0.
"""

import functools
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from iql_jax.agents.distributions import Categorical, Gaussian
from iql_jax.agents.products import product

LOG_STD_MIN = -5.0
LOG_STD_MAX = 2.0


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {"relu": nn.relu, "gelu": nn.gelu}

_GAIN = math.sqrt(2)


class JointDense(nn.Module):
    """A dense layer on inputs side by side: f32[..., I1], f32[..., I2], ... -> f32[..., features].

    Inputs of different leading shapes, such as a state f32[B, 1, O] and its candidate actions
    f32[B, C, A], are not repeated to one shape: each is multiplied by its own rows of the kernel,
    and the products are broadcast, which is the same up to float reassociation.
    """

    features: int
    gain: float = _GAIN

    @nn.compact
    def __call__(self, *inputs: jax.Array) -> jax.Array:
        widths = [x.shape[-1] for x in inputs]
        shape = (sum(widths), self.features)
        kernel = self.param("kernel", nn.initializers.orthogonal(self.gain), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        bias = bias.reshape((1,) * (inputs[0].ndim - 1) + (-1,))
        if len({x.shape[:-1] for x in inputs}) == 1:
            return product(jnp.concatenate(inputs, axis=-1), kernel) + bias
        rows = jnp.split(kernel, np.cumsum(widths)[:-1])
        products = [x @ part for x, part in zip(inputs, rows, strict=True)]
        return functools.reduce(jnp.add, products) + bias


class MLP(nn.Module):
    """Hidden layers f32[..., I], ... -> f32[..., hidden_dims[-1]], an activation after each.

    Several inputs enter the first layer side by side.

    Attributes:
      hidden_dims: the width of each layer.
      dropout_rate: share of units dropped after each activation while training; 0 is none.
      activation: a name of `ACTIVATIONS`.
      layer_norm: whether LayerNorm follows each activation.
    """

    hidden_dims: tuple[int, ...]
    dropout_rate: float = 0.0
    activation: str = "relu"
    layer_norm: bool = False

    @nn.compact
    def __call__(self, *inputs: jax.Array, training: bool = False) -> jax.Array:
        hidden = inputs
        for i, width in enumerate(self.hidden_dims):
            layer = JointDense(width, name=f"Dense_{i}")(*hidden)
            layer = ACTIVATIONS[self.activation](layer)
            if self.layer_norm:
                layer = nn.LayerNorm()(layer)
            if self.dropout_rate > 0:
                layer = nn.Dropout(self.dropout_rate)(layer, deterministic=not training)
            hidden = (layer,)
        return hidden[0]


class GaussianPolicy(nn.Module):
    """A Gaussian whose standard deviation does not depend on the state: f32[..., O] -> Gaussian.

    Attributes:
      hidden_dims, dropout_rate, activation: see `MLP`.
      action_dim: A.
      constant_std: a standard deviation of 1, and a mean that is not squashed; otherwise it is
        learned, and the mean is in (-1, 1).
    """

    hidden_dims: tuple[int, ...]
    action_dim: int
    dropout_rate: float = 0.0
    activation: str = "relu"
    constant_std: bool = False

    @nn.compact
    def __call__(self, observations: jax.Array, training: bool = False) -> Gaussian:
        hidden = MLP(self.hidden_dims, self.dropout_rate, self.activation)(
            observations, training=training
        )
        if self.constant_std:
            mean = JointDense(self.action_dim, gain=0.01, name="mean")(hidden)
            return Gaussian(mean, jnp.zeros(self.action_dim))
        mean = jnp.tanh(JointDense(self.action_dim, name="mean")(hidden))
        log_std = self.param("log_std", nn.initializers.zeros, (self.action_dim,))
        return Gaussian(mean, jnp.clip(log_std, LOG_STD_MIN, LOG_STD_MAX))


class CategoricalPolicy(nn.Module):
    """Chances of each of A choices: f32[..., O] -> Categorical. Attributes: see `MLP`."""

    hidden_dims: tuple[int, ...]
    action_dim: int
    dropout_rate: float = 0.0
    activation: str = "relu"

    @nn.compact
    def __call__(self, observations: jax.Array, training: bool = False) -> Categorical:
        hidden = MLP(self.hidden_dims, self.dropout_rate, self.activation)(
            observations, training=training
        )
        # A small gain: all choices start alike.
        return Categorical(JointDense(self.action_dim, gain=0.01, name="logits")(hidden))


class ValueFunction(nn.Module):
    """V(s): f32[..., O] -> f32[...]; or one Q(s, a), of two inputs.

    Attributes:
      hidden_dims, activation, layer_norm: see `MLP`.
      norm_inputs: whether LayerNorm comes first.
    """

    hidden_dims: tuple[int, ...]
    activation: str = "relu"
    layer_norm: bool = False
    norm_inputs: bool = False

    @nn.compact
    def __call__(self, *inputs: jax.Array) -> jax.Array:
        if self.norm_inputs:
            inputs = tuple(nn.LayerNorm(name="input_norm")(x) for x in inputs)
        hidden = MLP(self.hidden_dims, activation=self.activation, layer_norm=self.layer_norm)(
            *inputs
        )
        return jnp.squeeze(JointDense(1, name="head")(hidden), -1)


class QEnsemble(nn.Module):
    """Q_1(s, a) ... Q_E(s, a), independent networks: f32[..., O], f32[..., A] -> f32[E, ...].

    States f32[B, 1, O] with candidates f32[B, C, A] give f32[E, B, C].

    The members are separate layers, not one batched product: on CPUs a batched product of this
    size is slower, and on GPUs XLA launches no fewer kernels for it.
    """

    hidden_dims: tuple[int, ...]
    num_critics: int
    activation: str = "relu"
    layer_norm: bool = False

    @nn.compact
    def __call__(self, observations: jax.Array, actions: jax.Array) -> jax.Array:
        networks = [
            ValueFunction(self.hidden_dims, self.activation, self.layer_norm, name=f"q{i}")
            for i in range(self.num_critics)
        ]
        return jnp.stack([network(observations, actions) for network in networks])
