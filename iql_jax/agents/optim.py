"""One trained network: its parameters with Adam's moments, and one step of Adam on a loss."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

Params = Any
Metrics = dict[str, jax.Array]

# Adam's direction alone: the learning rate is a leaf of the agent's state, not of the optimiser,
# so that changing it never recompiles and members of a population can differ in it.
_ADAM = optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8)


class Learner(flax.struct.PyTreeNode):
    """Parameters and the optimiser state that goes with them."""

    params: Params
    opt_state: optax.OptState


def init_learner(params: Params) -> Learner:
    """Returns a learner of these parameters with zero moments."""
    return Learner(params=params, opt_state=_ADAM.init(params))


def minimize(
    loss_fn: Callable[[Params], tuple[jax.Array, Metrics]],
    learner: Learner,
    learning_rate: jax.Array,
    weight_decay: jax.Array | None = None,
) -> tuple[Learner, Metrics]:
    """Returns the learner after one step of Adam down `loss_fn`, and the loss's metrics.

    Args:
      loss_fn: params -> (scalar loss, metrics).
      learner: the network to train.
      learning_rate: f32[].
      weight_decay: f32[], decoupled as in AdamW (https://arxiv.org/abs/1711.05101); None for none.
    """
    grads, metrics = jax.grad(loss_fn, has_aux=True)(learner.params)
    directions, opt_state = _ADAM.update(grads, learner.opt_state)
    if weight_decay is not None:
        directions = jax.tree.map(lambda d, p: d + weight_decay * p, directions, learner.params)
    params = jax.tree.map(lambda p, d: p - learning_rate * d, learner.params, directions)
    return Learner(params=params, opt_state=opt_state), metrics


def cosine_decay(learning_rate: jax.Array, step: jax.Array, decay_steps: jax.Array) -> jax.Array:
    """Returns the learning rate of update `step`, falling to 0 at `decay_steps` along a cosine.

    Args:
      learning_rate: f32[], the rate of update 0.
      step: i32[], the number of updates done so far.
      decay_steps: f32[]; infinity keeps the rate constant.
    """
    progress = jnp.minimum(step / decay_steps, 1.0)
    return learning_rate * 0.5 * (1 + jnp.cos(jnp.pi * progress))


def polyak(params: Params, target_params: Params, rate: jax.Array) -> Params:
    """Returns rate * params + (1 - rate) * target_params, leaf by leaf."""
    return jax.tree.map(lambda p, t: p * rate + t * (1 - rate), params, target_params)
