"""The arrays that flow between data, agents and training."""

import flax.struct
import jax


class Batch(flax.struct.PyTreeNode):
    """Transitions as an agent consumes them.

    Attributes:
      observations: f32[B, O].
      actions: f32[B, A] in [-1, 1].
      rewards: f32[B], after the reward transform named in the configuration.
      masks: f32[B]; 0 where the episode terminated in this transition, so that nothing is
        bootstrapped from `next_observations`, else 1 (also at a time limit).
      next_observations: f32[B, O].
    """

    observations: jax.Array
    actions: jax.Array
    rewards: jax.Array
    masks: jax.Array
    next_observations: jax.Array
