"""Options of IQL's networks and policy, each where its answer is known."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iql_jax import agents
from iql_jax.agents import distributions, functions, iql, losses, networks
from iql_jax.config import RunConfig
from iql_jax.types import Batch

RUN = RunConfig(
    hidden_dims=(32, 32),
    discount=0.9,
    expectile=0.9,
    temperature=10.0,
    target_update_rate=0.05,
    actor_lr=2e-3,
    critic_lr=2e-3,
    value_lr=2e-3,
    opt_decay_schedule="none",
)


def make(agent="iql", run=RUN, observation_dim=1, action_dim=1):
    """Returns the agent, its configuration and a fresh state."""
    module = agents.get(agent)
    config = module.make_config(run.settings(), observation_dim, action_dim)
    hyper = module.make_hyperparameters(run.settings())
    return module, config, module.init(config, hyper, jax.random.key(0))


def learn(made, data, num_updates=600, batch_size=64):
    """Returns the configuration and the state after training on a batch that holds all data."""
    module, config, state = made

    @jax.jit
    def train(state):
        def update(state, key):
            row_key, update_key = jax.random.split(key)
            rows = jax.random.randint(row_key, (batch_size,), 0, len(data.rewards))
            batch = jax.tree.map(lambda x: x[rows], data)
            return module.update(config, state, batch, update_key)[0], None

        return jax.lax.scan(update, state, jax.random.split(jax.random.key(1), num_updates))[0]

    return config, train(state)


def one_state(actions, rewards):
    """Returns transitions of one state that all end there."""
    actions = jnp.asarray(actions, jnp.float32)
    ones = jnp.ones((len(actions), 1))
    return Batch(ones, actions, jnp.asarray(rewards, jnp.float32), jnp.zeros(len(actions)), ones)


# Discrete actions


def choices():
    """Of three choices, the one that pays best is the rarest in the data."""
    rng = np.random.default_rng(0)
    chosen = rng.choice(3, p=[0.6, 0.1, 0.3], size=2000)
    return one_state(np.eye(3)[chosen], np.array([0.2, 1.0, 0.0])[chosen])


@pytest.mark.parametrize(("agent", "best"), [("iql", 1), ("bc", 0)])
def test_discrete_iql_finds_the_rare_good_choice_and_cloning_does_not(agent, best):
    run = dataclasses.replace(RUN, policy_distribution="categorical")
    config, state = learn(make(agent, run, action_dim=3), choices())
    observations = jnp.ones((1000, 1))
    act = jax.jit(iql.sample_actions, static_argnums=0)
    greedy = act(config, state, observations, jax.random.key(2), temperature=0.0)
    np.testing.assert_array_equal(greedy, np.tile(np.eye(3)[best], (1000, 1)))
    if agent == "bc":
        sampled = act(config, state, observations, jax.random.key(2), temperature=1.0)
        np.testing.assert_allclose(sampled.mean(axis=0), [0.6, 0.1, 0.3], atol=0.06)


def test_categorical():
    pi = distributions.Categorical(jnp.log(jnp.array([[0.2, 0.5, 0.3]])))
    one_hot = jnp.array([[0.0, 0.0, 1.0]])
    np.testing.assert_allclose(pi.log_prob(one_hot), [np.log(0.3)], rtol=1e-6)
    np.testing.assert_array_equal(pi.mode(), [[0.0, 1.0, 0.0]])
    wide = distributions.Categorical(jnp.broadcast_to(pi.logits, (5000, 3)))
    np.testing.assert_allclose(
        wide.sample(jax.random.key(0), 1.0).mean(axis=0), [0.2, 0.5, 0.3], atol=0.03
    )
    np.testing.assert_array_equal(wide.sample(jax.random.key(1), 0.0)[0], [0.0, 1.0, 0.0])


# DDPG+BC


def test_ddpg_bc_loss():
    q, log_prob = jnp.array([1.0, -3.0]), jnp.array([-1.0, -2.0])
    np.testing.assert_allclose(losses.ddpg_bc_loss(q, log_prob, 0.5), [0.0, 2.5])
    slope = jax.grad(lambda q: losses.ddpg_bc_loss(q, log_prob, 0.5).sum())(q)
    np.testing.assert_allclose(slope, [-0.5, -0.5])  # no gradient through the mean


@pytest.mark.parametrize(("bc_coefficient", "action"), [(0.01, 0.5), (100.0, 0.0)])
@pytest.mark.parametrize("distribution", ["constant_std", "gaussian"])
def test_ddpg_bc_climbs_q_as_far_as_the_data_lets_it(distribution, bc_coefficient, action):
    actions = np.random.default_rng(0).uniform(-1, 1, size=(2000, 1))
    data = one_state(actions, 1 - 4 * (actions[:, 0] - 0.5) ** 2)
    run = dataclasses.replace(
        RUN,
        policy_extraction="ddpg_bc",
        policy_distribution=distribution,
        bc_coefficient=bc_coefficient,
    )
    config, state = learn(make(run=run), data, 1200)
    found = iql.sample_actions(config, state, jnp.ones((1, 1)), jax.random.key(0), temperature=0.0)
    np.testing.assert_allclose(found, [[action]], atol=0.15)


# Networks


def test_ogbenchs_critic_is_dense_gelu_layer_norm_for_each_layer():
    network = networks.ValueFunction((4, 4), "gelu", layer_norm=True)
    inputs = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2)), jnp.float32)
    params = network.init(jax.random.key(0), inputs)["params"]

    def norm(x):
        return (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6)

    params = jax.tree.map(np.asarray, params)
    hidden = np.asarray(inputs)
    for i in range(2):
        layer = params["MLP_0"][f"Dense_{i}"]
        hidden = norm(np.asarray(nn.gelu(hidden @ layer["kernel"] + layer["bias"])))
    expected = hidden @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose(network.apply({"params": params}, inputs), expected[:, 0], atol=1e-5)


def test_the_inputs_of_v_alone_may_be_normalised():
    run = dataclasses.replace(RUN, critic_layer_norm="value_inputs")
    _, config, state = make(run=run, observation_dim=3)
    observations = jnp.array([[1.0, 2.0, 4.0]])
    scaled = 10 * observations + 7

    def v(observations):
        return float(functions.v_of(config, state.critic.value.params, observations)[0])

    def q(observations):
        return functions.q_of(config, state.critic.q.params, observations, jnp.zeros((1, 1)))

    np.testing.assert_allclose(v(observations), v(scaled), rtol=1e-4)
    assert not np.allclose(q(observations), q(scaled), rtol=1e-4)


def test_candidates_that_share_a_state_have_the_q_of_pairs():
    for layer_norm in ("none", "hidden"):
        run = dataclasses.replace(RUN, critic_layer_norm=layer_norm)
        _, config, state = make(run=run, observation_dim=3, action_dim=2)
        rng = np.random.default_rng(0)
        observations = jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)
        candidates = jnp.asarray(rng.normal(size=(4, 5, 2)), jnp.float32)
        params = state.critic.q.params
        shared = functions.q_of(config, params, observations[:, None], candidates)
        pairs = functions.q_of(
            config, params, observations.repeat(5, axis=0), candidates.reshape(20, 2)
        )
        assert shared.shape == (2, 4, 5)
        np.testing.assert_allclose(shared.reshape(2, 20), pairs, atol=1e-5)


def test_a_constant_standard_deviation_is_one_and_the_mean_is_free():
    run = dataclasses.replace(RUN, policy_distribution="constant_std")
    _, config, state = make(run=run)
    assert "log_std" not in state.policy.params["params"]
    pi = functions.policy_of(config, state.policy.params, jnp.ones((1, 1)))
    np.testing.assert_allclose(pi.log_prob(pi.mean), -0.9189385, rtol=1e-6)
    assert jnp.abs(pi.mean).max() < 0.05  # the last layer starts small
    far = jax.tree.map(lambda x: x + 10.0, state.policy.params)
    assert functions.policy_of(config, far, jnp.ones((1, 1))).mean > 1.0
    state = state.replace(policy=state.policy.replace(params=far))
    acted = iql.sample_actions(config, state, jnp.ones((1, 1)), jax.random.key(0), temperature=0.0)
    np.testing.assert_array_equal(acted, [[1.0]])


def test_advantages_may_be_of_the_online_critic():
    rng = np.random.default_rng(0)
    data = one_state(rng.uniform(-1, 1, size=(16, 1)), rng.normal(size=16))
    advantages = {}
    for online in (False, True):
        _, config, state = make(run=dataclasses.replace(RUN, online_advantage=online))
        apart = jax.tree.map(lambda x: x + 0.1, state.critic.q.params)
        critic = state.critic.replace(q=state.critic.q.replace(params=apart))
        after, adv, _ = iql.update_critic(config, state.hyper, critic, data)
        params = apart if online else critic.target_q_params
        q = functions.q_of(config, params, data.observations, data.actions).min(axis=0)
        v = functions.v_of(config, after.value.params, data.observations)
        np.testing.assert_allclose(adv, q - v, rtol=1e-4, atol=1e-5)
        told = iql.diagnose(config, state.replace(critic=critic), data)
        v = functions.v_of(config, critic.value.params, data.observations)
        np.testing.assert_allclose(told["adv"], q - v, rtol=1e-4, atol=1e-5)
        advantages[online] = adv
    assert not np.allclose(advantages[False], advantages[True])
