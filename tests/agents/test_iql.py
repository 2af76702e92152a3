"""What IQL learns where the answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iql_jax import agents
from iql_jax.agents import iql
from iql_jax.agents.functions import q_of, v_of
from iql_jax.config import RunConfig
from iql_jax.data import replay
from iql_jax.training import population
from iql_jax.types import Batch

SETTINGS = RunConfig(
    hidden_dims=(64, 64),
    discount=0.9,
    expectile=0.9,
    temperature=10.0,
    target_update_rate=0.05,
    actor_lr=1e-3,
    critic_lr=1e-3,
    value_lr=1e-3,
    opt_decay_schedule="none",
).settings()


update = jax.jit(iql.update, static_argnums=0)


def learn(name, rows, observation_dim, num_updates=1500):
    """Returns the agent, its configuration and one member's state after training on rows."""
    agent = agents.get(name)
    config = agent.make_config(SETTINGS, observation_dim, 1)
    layout = population.choose_layout(1)
    hyper = population.stack_hyperparameters([agent.make_hyperparameters(SETTINGS)])
    init_keys, keys = population.member_keys([0])
    states = population.init_many(agent, config, layout, hyper, init_keys)
    states, _, broken_at = population.update_many(
        agent,
        config,
        layout,
        states,
        keys,
        jnp.asarray(rows, jnp.float32),
        jnp.int32(len(rows)),
        batch_size=64,
        num_updates=num_updates,
    )
    assert broken_at[0] == -1
    return agent, config, jax.tree.map(lambda x: x[0], states)


def act(agent, config, state, observations):
    return agent.sample_actions(config, state, observations, jax.random.key(0), temperature=0.0)


def bandit():
    """Rows of one state, where four of five actions are near -0.5 and pay nothing."""
    rng = np.random.default_rng(0)
    good = rng.random(2000) < 0.2
    actions = np.where(good, 0.5, -0.5) + 0.05 * rng.normal(size=2000)
    zeros, ones = np.zeros(2000), np.ones(2000)
    #             observation, action, next observation, reward, mask
    return np.stack([ones, actions, ones, good.astype(float), zeros], axis=1)


def test_iql_finds_the_rare_good_action_and_cloning_does_not():
    observations = jnp.ones((1, 1))
    by_iql = act(*learn("iql", bandit(), 1), observations)
    by_bc = act(*learn("bc", bandit(), 1), observations)
    np.testing.assert_allclose(by_iql, 0.5, atol=0.1)
    np.testing.assert_allclose(by_bc, -0.3, atol=0.1)  # the mean of the data


def test_values_of_a_chain_are_the_discounted_rewards():
    # Three states in a row, the last step pays 1 and ends; one-hot observations.
    states = np.eye(3)
    rows = np.stack(
        [
            np.concatenate([states[i], [0.0], states[min(i + 1, 2)], [i == 2], [i != 2]])
            for i in range(3)
        ]
    )
    _, config, state = learn("iql", rows, 3, num_updates=2500)
    values = v_of(config, state.critic.value.params, jnp.eye(3))
    np.testing.assert_allclose(values, [0.81, 0.9, 1.0], atol=0.03)
    q = q_of(config, state.critic.q.params, jnp.eye(3), jnp.zeros((3, 1)))
    np.testing.assert_allclose(q, np.broadcast_to([0.81, 0.9, 1.0], (2, 3)), atol=0.03)
    batch = replay.unpack(jnp.asarray(rows, jnp.float32), 3, 1)
    found = jax.jit(iql.diagnose, static_argnums=0)(config, state, batch)
    np.testing.assert_allclose(found["v"], values, atol=1e-5)
    np.testing.assert_allclose(found["q"], q.min(axis=0), atol=1e-5)
    np.testing.assert_allclose(found["adv"], 0.0, atol=0.03)  # the one action there is


def test_a_masked_transition_bootstraps_nothing():
    settings = SETTINGS | {"hidden_dims": (8,)}
    config = iql.make_config(settings, 2, 1)
    hyper = iql.make_hyperparameters(settings)
    state = iql.init(config, hyper, jax.random.key(0))
    rng = np.random.default_rng(0)
    kept = Batch(
        observations=jnp.asarray(rng.normal(size=(4, 2)), jnp.float32),
        actions=jnp.zeros((4, 1)),
        rewards=jnp.ones(4),
        masks=jnp.zeros(4),
        next_observations=jnp.asarray(rng.normal(size=(4, 2)), jnp.float32),
    )
    other = kept.replace(next_observations=kept.next_observations + 100.0)
    left, _ = update(config, state, kept, jax.random.key(0))
    right, _ = update(config, state, other, jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, left.critic.q.params, right.critic.q.params)


def test_dropout_acts_while_training_alone():
    settings = SETTINGS | {"hidden_dims": (32, 32), "dropout_rate": 0.5}
    config = iql.make_config(settings, 2, 1)
    state = iql.init(config, iql.make_hyperparameters(settings), jax.random.key(0))
    batch = Batch(jnp.ones((4, 2)), jnp.zeros((4, 1)), jnp.ones(4), jnp.ones(4), jnp.ones((4, 2)))
    losses = {
        float(update(config, state, batch, jax.random.key(seed))[1]["actor_loss"])
        for seed in range(3)
    }
    assert len(losses) == 3
    actions = [act(iql, config, state, jnp.ones((1, 2))) for _ in range(2)]
    np.testing.assert_array_equal(*actions)


@pytest.mark.parametrize("num_critics", [1, 3])
def test_any_number_of_critics(num_critics):
    settings = SETTINGS | {"hidden_dims": (8,), "num_critics": num_critics}
    config = iql.make_config(settings, 2, 1)
    state = iql.init(config, iql.make_hyperparameters(settings), jax.random.key(0))
    q = q_of(config, state.critic.q.params, jnp.ones((4, 2)), jnp.ones((4, 1)))
    assert q.shape == (num_critics, 4)
    assert len({float(x) for x in q[:, 0]}) == num_critics  # no two start alike
