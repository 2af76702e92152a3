"""Elementwise losses, named after the paper (https://arxiv.org/abs/2110.06169).

Callers reduce over the batch. Every function works on arrays of any shape.
"""

import math

import jax
import jax.numpy as jnp


def expectile_loss(diff: jax.Array, expectile: jax.Array | float) -> jax.Array:
    """Returns |expectile - 1(diff < 0)| diff^2, equation (5) of the IQL paper.

    Args:
      diff: f32[...], target minus prediction: min Q(s, a) - V(s).
      expectile: the paper's tau, in (0, 1).
    """
    return jnp.where(diff > 0, expectile, 1 - expectile) * diff**2


def awr_weight(
    adv: jax.Array, temperature: jax.Array | float, max_weight: float = 100.0
) -> jax.Array:
    """Returns min(exp(temperature * adv), max_weight), the weight in equation (7) of the IQL paper.

    Args:
      adv: f32[...], the advantage min Q(s, a) - V(s).
      temperature: the paper's beta, an inverse temperature >= 0.
      max_weight: the authors' bound, so that one outlier cannot dominate a batch.
    """
    return jnp.minimum(jnp.exp(adv * temperature), max_weight)


def gaussian_log_prob(actions: jax.Array, mean: jax.Array, log_std: jax.Array) -> jax.Array:
    """Returns log N(actions; mean, diag exp(log_std)^2) summed over the last axis: f32[...].

    Args:
      actions: f32[..., A].
      mean: f32[..., A].
      log_std: f32[A].
    """
    log_std = jnp.broadcast_to(log_std, mean.shape)
    scaled = (actions - mean) * jnp.exp(-log_std)
    return -jnp.sum(0.5 * scaled**2 + log_std + 0.5 * math.log(2 * math.pi), axis=-1)
