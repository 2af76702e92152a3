"""Elementwise losses, named after the papers, and the policies that they imply.

IQL: https://arxiv.org/abs/2110.06169. IDQL: https://arxiv.org/abs/2304.10573, which generalises
V's loss to any convex f of u = min Q(s, a) - V(s). Where it is least, V is the mean of Q under an
*implicit policy*: the behaviour's, reweighted by |f'(u)| / |u|.

Callers reduce over the batch. Every function works on arrays of any shape.
"""

import math
from typing import Protocol

import jax
import jax.numpy as jnp

CRITIC_OBJECTIVES = ("expectile", "quantile", "exponential")

# The authors' bounds on the weights of the policy's loss and on exp(alpha u), so that one outlier
# cannot dominate a batch.
MAX_WEIGHT = 100.0
_MAX_EXPONENT = math.log(6.0)

# Under this |u| the weights no longer grow: they diverge at u = 0, where the action is V's own.
_MIN_ADV = 1e-6


def expectile_loss(diff: jax.Array, expectile: jax.Array | float) -> jax.Array:
    """Returns |expectile - 1(diff < 0)| diff^2, equation (5) of the IQL paper.

    Args:
      diff: f32[...], target minus prediction: min Q(s, a) - V(s).
      expectile: the paper's tau, in (0, 1).
    """
    return jnp.where(diff > 0, expectile, 1 - expectile) * diff**2


def quantile_loss(diff: jax.Array, quantile: jax.Array | float) -> jax.Array:
    """Returns |quantile - 1(diff < 0)| |diff|, the IDQL paper's quantile objective.

    Args:
      diff: f32[...], target minus prediction: min Q(s, a) - V(s).
      quantile: in (0, 1).
    """
    return jnp.where(diff > 0, quantile, 1 - quantile) * jnp.abs(diff)


def exponential_loss(diff: jax.Array, alpha: jax.Array | float) -> jax.Array:
    """Returns what has the gradient of exp(alpha diff) / alpha - diff, of the IDQL paper.

    Its value is the authors': (exp(alpha diff) - 1) diff, with no gradient through the first
    factor, which is at most 5.

    Args:
      diff: f32[...], target minus prediction: min Q(s, a) - V(s).
      alpha: > 0; V is above the mean of Q by about alpha / 2 of its variance.
    """
    slope = jnp.exp(jnp.minimum(alpha * diff, _MAX_EXPONENT)) - 1
    return jax.lax.stop_gradient(slope) * diff


class CriticNumbers(Protocol):
    """The number of each critic objective, f32[]."""

    expectile: jax.Array
    quantile: jax.Array
    exponential_alpha: jax.Array


def value_loss(objective: str, diff: jax.Array, numbers: CriticNumbers) -> jax.Array:
    """Returns V's loss f32[...] under one of `CRITIC_OBJECTIVES`.

    Args:
      objective: which.
      diff: f32[...], min Q(s, a) - V(s).
      numbers: of every objective; the one of this name is used.
    """
    if objective == "expectile":
        return expectile_loss(diff, numbers.expectile)
    if objective == "quantile":
        return quantile_loss(diff, numbers.quantile)
    assert objective == "exponential", objective
    return exponential_loss(diff, numbers.exponential_alpha)


def implicit_weight(objective: str, adv: jax.Array, numbers: CriticNumbers) -> jax.Array:
    """Returns |f'(adv)| / |adv| >= 0 up to a factor: the implicit policy over the behaviour's.

    The IDQL paper's theorem on implicit policies. The authors' code has two of the three otherwise:
    it divides the quantile's weight by the signed advantage, and its exponential weight is a
    constant.

    Args:
      objective: one of `CRITIC_OBJECTIVES`, that V was trained with.
      adv: f32[...], min Q(s, a) - V(s).
      numbers: of every objective; the one of this name is used.
    """
    distance = jnp.maximum(jnp.abs(adv), _MIN_ADV)
    if objective == "expectile":
        return jnp.where(adv < 0, 1 - numbers.expectile, numbers.expectile)
    if objective == "quantile":
        return jnp.where(adv < 0, 1 - numbers.quantile, numbers.quantile) / distance
    assert objective == "exponential", objective
    alpha = numbers.exponential_alpha
    signed = jnp.where(adv < 0, -distance, distance)  # for expm1(x) / x is smooth at 0
    return alpha * jnp.abs(jnp.expm1(jnp.minimum(alpha * signed, _MAX_EXPONENT))) / distance


def awr_weight(
    adv: jax.Array, temperature: jax.Array | float, max_weight: float = MAX_WEIGHT
) -> jax.Array:
    """Returns min(exp(temperature * adv), max_weight), the weight in equation (7) of the IQL paper.

    Args:
      adv: f32[...], the advantage min Q(s, a) - V(s).
      temperature: the paper's beta, an inverse temperature >= 0.
      max_weight: the bound.
    """
    return jnp.minimum(jnp.exp(adv * temperature), max_weight)


def ddpg_bc_loss(q: jax.Array, log_prob: jax.Array, bc_coefficient: jax.Array | float) -> jax.Array:
    """Returns -q / mean|q| - bc_coefficient * log_prob: f32[B], of Park et al. 2024.

    Dividing by the batch's mean |q|, through which no gradient flows, makes the coefficient mean
    the same whatever the scale of rewards (https://arxiv.org/abs/2406.09329).

    Args:
      q: f32[B], min Q(s, pi(s)).
      log_prob: f32[B], of the data's actions.
      bc_coefficient: >= 0.
    """
    scale = jax.lax.stop_gradient(jnp.maximum(jnp.abs(q).mean(), 1e-6))
    return -q / scale - bc_coefficient * log_prob


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
