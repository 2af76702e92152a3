"""Behaviour cloning: IQL's policy with every weight 1, and no critic.

The yardstick for what the advantages of IQL add.
"""

import flax.struct
import jax
import jax.numpy as jnp

from iql_jax.agents import iql
from iql_jax.agents.iql import (
    ACTS_IN_ONE_PASS,
    Hyperparameters,
    IQLConfig,
    acting_by,
    for_online_training,
    make_config,
    make_hyperparameters,
)
from iql_jax.agents.optim import Learner, Metrics, cosine_decay
from iql_jax.types import Batch

__all__ = [
    "ACTS_IN_ONE_PASS",
    "BCState",
    "acting_by",
    "diagnose",
    "for_online_training",
    "init",
    "make_config",
    "make_hyperparameters",
    "sample_actions",
    "update",
]


class BCState(flax.struct.PyTreeNode):
    """Attributes: step i32[], the hyper-parameters (the policy's learning rate), the policy."""

    step: jax.Array
    hyper: Hyperparameters
    policy: Learner


def init(config: IQLConfig, hyper: Hyperparameters, key: jax.Array) -> BCState:
    """Returns a fresh state."""
    return BCState(step=jnp.zeros((), jnp.int32), hyper=hyper, policy=iql.init_policy(config, key))


def update(
    config: IQLConfig, state: BCState, batch: Batch, key: jax.Array
) -> tuple[BCState, Metrics]:
    """Returns the state after one step up the batch's mean log-likelihood, and metrics."""
    actor_lr = cosine_decay(state.hyper.actor_lr, state.step, state.hyper.actor_decay_steps)
    weight = jnp.ones_like(batch.rewards)
    policy, metrics = iql.update_policy(config, state.policy, batch, weight, actor_lr, key)
    return state.replace(step=state.step + 1, policy=policy), metrics


def sample_actions(
    config: IQLConfig,
    state: BCState,
    observations: jax.Array,
    key: jax.Array,
    *,
    temperature: jax.Array | float,
) -> jax.Array:
    """Returns actions f32[B, A] in [-1, 1] of the cloned policy."""
    return iql.sample_actions(config, state, observations, key, temperature=temperature)


def diagnose(config: IQLConfig, state: BCState, batch: Batch) -> dict[str, jax.Array]:
    """Returns how likely the cloned policy finds each transition's action: `log_prob`, f32[B]."""
    return {"log_prob": iql.log_prob_of(config, state, batch)}
