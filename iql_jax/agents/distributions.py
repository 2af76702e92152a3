"""Distributions of actions, as the policy networks return them.

All have `log_prob(actions)`, `mode()` and `sample(key, temperature)`. Actions of both kinds are
f32[..., A] in [-1, 1]; a discrete action is a one-hot row over the A choices.
"""

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from iql_jax.agents import losses


class Distribution(Protocol):
    """What a policy network returns for f32[..., O]."""

    def log_prob(self, actions: jax.Array) -> jax.Array:
        """Returns log pi(a|s), f32[...]."""

    def mode(self) -> jax.Array:
        """Returns the likeliest actions, f32[..., A]."""

    def sample(self, key: jax.Array, temperature: jax.Array | float) -> jax.Array:
        """Returns actions f32[..., A]: the mode at temperature 0, random ones at 1."""


class Gaussian(NamedTuple):
    """Independent normal numbers; those acted are clipped to [-1, 1].

    Attributes:
      mean: f32[..., A].
      log_std: f32[A].
    """

    mean: jax.Array
    log_std: jax.Array

    def log_prob(self, actions: jax.Array) -> jax.Array:
        """Returns the log density, before clipping: f32[...]."""
        return losses.gaussian_log_prob(actions, self.mean, self.log_std)

    def mode(self) -> jax.Array:
        """Returns the mean, clipped."""
        return jnp.clip(self.mean, -1.0, 1.0)

    def sample(self, key: jax.Array, temperature: jax.Array | float) -> jax.Array:
        """Returns the mean plus `temperature`-scaled noise, clipped."""
        std = jnp.broadcast_to(jnp.exp(self.log_std), self.mean.shape)
        noise = jax.random.normal(key, self.mean.shape)
        return jnp.clip(self.mean + temperature * std * noise, -1.0, 1.0)


class Categorical(NamedTuple):
    """One of A choices.

    Attributes:
      logits: f32[..., A].
    """

    logits: jax.Array

    def log_prob(self, actions: jax.Array) -> jax.Array:
        """Returns the log probability of one-hot rows: f32[...]."""
        return (actions * jax.nn.log_softmax(self.logits)).sum(axis=-1)

    def mode(self) -> jax.Array:
        """Returns the likeliest choice, one-hot."""
        return self._one_hot(self.logits)

    def sample(self, key: jax.Array, temperature: jax.Array | float) -> jax.Array:
        """Returns a choice with the chances of logits / temperature, one-hot."""
        # The largest of the logits with Gumbel noise, which has no division by a temperature of 0.
        return self._one_hot(self.logits + temperature * jax.random.gumbel(key, self.logits.shape))

    def _one_hot(self, scores: jax.Array) -> jax.Array:
        return jax.nn.one_hot(scores.argmax(axis=-1), scores.shape[-1])
