"""A diffusion model of actions: noise predictor, schedules, loss and sampler (DDPM).

Ho, Jain and Abbeel 2020, https://arxiv.org/abs/2006.11239, with the network of IDQL,
https://arxiv.org/abs/2304.10573: a residual network with LayerNorm on the noisy action, the state
and learnable Fourier features of the diffusion step.

Steps count from 0, the least noise, to T - 1.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from iql_jax.agents.optim import Params

_xavier = nn.initializers.xavier_uniform()


@dataclasses.dataclass(frozen=True)
class DiffusionConfig:
    """What shapes the noise predictor and its sampler.

    Attributes:
      action_dim: A.
      hidden_dim: H, width of the residual stream; blocks are 4 times as wide inside.
      num_blocks: residual blocks.
      time_dim: Fourier features of the diffusion step.
      time_hidden_dims: widths of the network on those features.
      activation: `mish` or `swish`.
      dropout_rate: before each block.
      num_diffusion_steps: T.
      schedule: `vp`, `cosine` or `linear`.
    """

    action_dim: int
    hidden_dim: int
    num_blocks: int
    time_dim: int
    time_hidden_dims: tuple[int, ...]
    activation: str
    dropout_rate: float
    num_diffusion_steps: int
    schedule: str


def noise_rates(schedule: str, num_steps: int) -> np.ndarray:
    """Returns beta of each step, f64[T] in (0, 1): the share of noise that it adds.

    Args:
      schedule: `vp`, the discretised variance-preserving SDE of Song et al. 2021 with rates from
        0.1 to 10; `cosine`, of Nichol and Dhariwal 2021; `linear`, of Ho et al. 2020.
      num_steps: T.
    """
    if schedule == "vp":
        low, high = 0.1, 10.0
        step = np.arange(1, num_steps + 1)
        exponent = low / num_steps + 0.5 * (high - low) * (2 * step - 1) / num_steps**2
        return 1 - np.exp(-exponent)
    if schedule == "cosine":
        offset = 0.008
        time = np.arange(num_steps + 1) / num_steps
        kept = np.cos((time + offset) / (1 + offset) * np.pi / 2) ** 2
        return np.clip(1 - kept[1:] / kept[:-1], 0.0, 0.999)
    assert schedule == "linear", schedule
    return np.linspace(1e-4, 2e-2, num_steps)


def mish(x: jax.Array) -> jax.Array:
    """Returns x tanh(log(1 + exp x)), by one exponential instead of three functions.

    tanh(log(1 + e)) = e (e + 2) / (e (e + 2) + 2). From x = 20 on that is 1 in float32.
    """
    e = jnp.exp(jnp.minimum(x, 20.0))
    n = e * (e + 2)
    return x * (n / (n + 2))


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {"mish": mish, "swish": nn.swish}


class ResidualBlock(nn.Module):
    """Dropout, LayerNorm and two layers, added to the input: f32[..., H] -> f32[..., H]."""

    activation: Callable[[jax.Array], jax.Array]
    dropout_rate: float

    @nn.compact
    def __call__(self, inputs: jax.Array, training: bool) -> jax.Array:
        width = inputs.shape[-1]
        hidden = inputs
        if self.dropout_rate > 0:
            hidden = nn.Dropout(self.dropout_rate)(hidden, deterministic=not training)
        hidden = nn.Dense(4 * width)(nn.LayerNorm()(hidden))
        return inputs + nn.Dense(width)(self.activation(hidden))


class NoisePredictor(nn.Module):
    """The noise in a noisy action, given the state and the diffusion step.

    The first layer sees the action, the state and the features of the step side by side. It is
    computed as the sum of three parts, so that candidates of one state share the state's part, and
    everything shares the T rows of the steps' part. The rest of the network mixes all three.
    """

    config: DiffusionConfig
    observation_dim: int

    def setup(self) -> None:
        config = self.config
        self.activation = ACTIVATIONS[config.activation]
        num_inputs = config.action_dim + self.observation_dim + config.time_hidden_dims[-1]
        self.frequencies = self.param(
            "frequencies", nn.initializers.normal(0.2), (config.time_dim // 2,)
        )
        self.time_layers = [nn.Dense(w, kernel_init=_xavier) for w in config.time_hidden_dims]
        self.kernel = self.param("kernel", _xavier, (num_inputs, config.hidden_dim))
        self.bias = self.param("bias", nn.initializers.zeros, (config.hidden_dim,))
        self.blocks = [
            ResidualBlock(self.activation, config.dropout_rate) for _ in range(config.num_blocks)
        ]
        self.head = nn.Dense(config.action_dim, kernel_init=_xavier)

    def __call__(
        self,
        observations: jax.Array,
        noisy_actions: jax.Array,
        steps: jax.Array,
        training: bool = False,
    ) -> jax.Array:
        """Returns the predicted noise f32[B, A].

        Args:
          observations: f32[B, O].
          noisy_actions: f32[B, A].
          steps: i32[B] in [0, T).
          training: whether to drop units.
        """
        # A product with one-hot rows, for the gradient of a gather adds up in no fixed order on
        # some accelerators, and a run could not be repeated there.
        one_hot = jax.nn.one_hot(steps, self.config.num_diffusion_steps)
        context = self.embed_observations(observations) + one_hot @ self.embed_steps()
        return self.predict(noisy_actions, context, training)

    def embed_steps(self) -> jax.Array:
        """Returns every step's part of the first layer, f32[T, H]."""
        steps = jnp.arange(self.config.num_diffusion_steps, dtype=jnp.float32)
        angles = 2 * math.pi * steps[:, None] * self.frequencies[None]
        hidden = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)
        for layer in self.time_layers[:-1]:
            hidden = self.activation(layer(hidden))
        rows = self.kernel[self.config.action_dim + self.observation_dim :]
        return self.time_layers[-1](hidden) @ rows + self.bias[None]

    def embed_observations(self, observations: jax.Array) -> jax.Array:
        """Returns the states' part of the first layer, f32[..., H]."""
        first = self.config.action_dim
        return observations @ self.kernel[first : first + self.observation_dim]

    def predict(
        self, noisy_actions: jax.Array, context: jax.Array, training: bool = False
    ) -> jax.Array:
        """Returns the predicted noise f32[..., A] given the other parts of the first layer."""
        hidden = noisy_actions @ self.kernel[: self.config.action_dim] + context
        for block in self.blocks:
            hidden = block(hidden, training)
        return self.head(self.activation(hidden))


def init(config: DiffusionConfig, observation_dim: int, key: jax.Array) -> Params:
    """Returns fresh parameters of the noise predictor."""
    return NoisePredictor(config, observation_dim).init(
        key,
        jnp.zeros((1, observation_dim)),
        jnp.zeros((1, config.action_dim)),
        jnp.zeros((1,), jnp.int32),
    )


def add_noise(
    config: DiffusionConfig, actions: jax.Array, noise: jax.Array, steps: jax.Array
) -> jax.Array:
    """Returns the actions f32[B, A] after the steps i32[B] of the forward process."""
    kept = jnp.asarray(np.cumprod(1 - _betas(config)), jnp.float32)[steps][:, None]
    return jnp.sqrt(kept) * actions + jnp.sqrt(1 - kept) * noise


def denoising_loss(
    config: DiffusionConfig,
    params: Params,
    observations: jax.Array,
    actions: jax.Array,
    key: jax.Array,
) -> jax.Array:
    """Returns the squared error of the predicted noise at a random step: f32[B].

    Equation (14) of the DDPM paper, summed over the action's dimensions.

    Args:
      config: shapes.
      params: of the noise predictor.
      observations: f32[B, O].
      actions: f32[B, A].
      key: typed PRNG key of steps, noise and dropout.
    """
    step_key, noise_key, dropout_key = jax.random.split(key, 3)
    steps = jax.random.randint(step_key, actions.shape[:1], 0, config.num_diffusion_steps)
    noise = jax.random.normal(noise_key, actions.shape)
    predicted: Any = NoisePredictor(config, observations.shape[-1]).apply(
        params,
        observations,
        add_noise(config, actions, noise, steps),
        steps,
        training=True,
        rngs={"dropout": dropout_key} if config.dropout_rate > 0 else None,
    )
    return ((predicted - noise) ** 2).sum(axis=-1)


def denoise(
    config: DiffusionConfig,
    params: Params,
    observations: jax.Array,
    start: jax.Array,
    key: jax.Array,
    temperature: float = 1.0,
) -> jax.Array:
    """Returns actions f32[B, C, A] in [-1, 1]: the reverse process from `start`.

    Algorithm 2 of the DDPM paper, clipped at each step as in IDQL's code.

    Args:
      config: shapes.
      params: of the noise predictor.
      observations: f32[B, O].
      start: f32[B, C, A], normal noise.
      key: typed PRNG key of the noise of the steps.
      temperature: scales that noise.
    """
    predictor = NoisePredictor(config, observations.shape[-1])
    # What depends on the state alone, and on the step alone, once.
    state_part: Any = predictor.apply(params, observations, method="embed_observations")
    step_parts: Any = predictor.apply(params, method="embed_steps")
    betas = _betas(config)
    kept = np.cumprod(1 - betas)
    table = {
        "step_part": step_parts,
        "shrink": _f32(1 / np.sqrt(1 - betas)),
        "remove": _f32(betas / np.sqrt(1 - kept)),
        "noise": temperature * _f32(np.sqrt(betas) * (np.arange(len(betas)) > 0)),
        "key": jax.random.split(key, len(betas)),
    }

    def reverse(actions: jax.Array, step: dict[str, jax.Array]) -> tuple[jax.Array, None]:
        context = (state_part + step["step_part"][None])[:, None, :]  # [B, 1, H]
        predicted: Any = predictor.apply(params, actions, context, method="predict")
        mean = step["shrink"] * (actions - step["remove"] * predicted)
        noisy = mean + step["noise"] * jax.random.normal(step["key"], actions.shape)
        return jnp.clip(noisy, -1.0, 1.0), None

    actions, _ = jax.lax.scan(reverse, start, table, reverse=True)
    return actions


def sample(
    config: DiffusionConfig,
    params: Params,
    observations: jax.Array,
    num_candidates: int,
    key: jax.Array,
) -> jax.Array:
    """Returns C actions of each state from the model, f32[B, C, A] in [-1, 1].

    Args:
      config: shapes.
      params: of the noise predictor.
      observations: f32[B, O].
      num_candidates: C.
      key: typed PRNG key.
    """
    start_key, steps_key = jax.random.split(key)
    shape = (observations.shape[0], num_candidates, config.action_dim)
    start = jax.random.normal(start_key, shape)
    return denoise(config, params, observations, start, steps_key)


def _betas(config: DiffusionConfig) -> np.ndarray:
    return noise_rates(config.schedule, config.num_diffusion_steps)


def _f32(values: np.ndarray) -> jax.Array:
    return jnp.asarray(values, jnp.float32)
