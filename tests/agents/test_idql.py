"""What IDQL learns where the answer is known, how it acts, and what its options change."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iql_jax import agents
from iql_jax.agents import idql, iql, losses
from iql_jax.agents.functions import v_of
from iql_jax.config import DiffusionSettings, RunConfig
from iql_jax.training import population
from iql_jax.types import Batch

DIFFUSION = DiffusionSettings(
    hidden_dim=32,
    num_blocks=1,
    time_dim=8,
    time_hidden_dims=(16,),
    policy_updates=1,
    ema_rate=0.01,
    critic_batch_size=64,
)
RUN = RunConfig(
    hidden_dims=(32, 32),
    expectile=0.9,
    temperature=10.0,
    target_update_rate=0.05,
    actor_lr=2e-3,
    critic_lr=1e-3,
    value_lr=1e-3,
    opt_decay_schedule="none",
    diffusion=DIFFUSION,
)
SMALL = dataclasses.replace(
    RUN,
    hidden_dims=(8,),
    diffusion=dataclasses.replace(DIFFUSION, hidden_dim=8, critic_batch_size=4),
)
update = jax.jit(idql.update, static_argnums=0)
act = jax.jit(idql.sample_actions, static_argnums=0, static_argnames="temperature")


def make(run=SMALL, observation_dim=2, action_dim=1, **diffusion):
    """Returns the configuration and a fresh state."""
    run = dataclasses.replace(run, diffusion=dataclasses.replace(run.diffusion, **diffusion))
    config = idql.make_config(run.settings(), observation_dim, action_dim)
    hyper = idql.make_hyperparameters(run.settings())
    return config, idql.init(config, hyper, jax.random.key(0))


def batch(size=8, seed=0):
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    actions = jnp.tanh(normal(size, 1))
    return Batch(normal(size, 2), actions, normal(size), jnp.ones(size), normal(size, 2))


def learn(name, rows, num_updates):
    """Returns the agent, its configuration and one member's state after training on rows."""
    agent = agents.get(name)
    config = agent.make_config(RUN.settings(), 1, 1)
    layout = population.choose_layout(1)
    hyper = population.stack_hyperparameters([agent.make_hyperparameters(RUN.settings())])
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
    return config, jax.tree.map(lambda x: x[0], states)


def two_good_actions():
    """Rows of one state: -0.7 and 0.7 pay 1, what lies between pays nothing."""
    rng = np.random.default_rng(0)
    actions = rng.choice([-0.7, 0.0, 0.7], p=[0.4, 0.2, 0.4], size=2000)
    actions = actions + 0.05 * rng.normal(size=2000)
    rewards = (np.abs(actions) > 0.4).astype(float)
    zeros, ones = np.zeros(2000), np.ones(2000)
    #             observation, action, next observation, reward, mask
    return np.stack([ones, actions, ones, rewards, zeros], axis=1)


def test_idql_keeps_both_good_actions_where_a_gaussian_takes_their_bad_mean():
    observations = jnp.ones((200, 1))
    config, state = learn("iql", two_good_actions(), 600)
    by_iql = jax.jit(iql.sample_actions, static_argnums=0)(
        config, state, observations, jax.random.key(0), temperature=0.0
    )
    assert np.abs(by_iql).max() < 0.4  # pays nothing, always
    config, state = learn("idql", two_good_actions(), 800)
    config = idql.acting_by(config, 8)
    by_idql = np.asarray(act(config, state, observations, jax.random.key(0), temperature=0.0))[:, 0]
    assert np.mean(np.abs(by_idql) > 0.4) > 0.98
    config = idql.acting_by(config, 8, "implicit")
    implicit = np.asarray(act(config, state, observations, jax.random.key(1), temperature=0.0))
    shares = [np.mean(implicit * sign > 0.4) for sign in (-1, 1)]
    assert min(shares) > 0.2  # both are acted


@pytest.fixture
def choosing():
    """A configuration of 4 candidates, a state, observations and candidates."""
    config, state = make(num_candidates=4)
    rng = np.random.default_rng(1)
    observations = jnp.asarray(rng.normal(size=(3, 2)), jnp.float32)
    candidates = jnp.asarray(rng.uniform(-1, 1, size=(3, 4, 1)), jnp.float32)
    q = np.stack(
        [idql.min_target_q(config, state.critic, observations, candidates[:, i]) for i in range(4)],
        axis=1,
    )
    v = np.asarray(v_of(config, state.critic.value.params, observations))
    return config, state, observations, candidates, q, v


def test_rules_weigh_candidates_as_the_paper_says(choosing):
    config, state, observations, candidates, q, v = choosing

    def chances(rule):
        log_weight = idql.log_choice_weight(config, rule, state, observations, candidates)
        return np.asarray(jax.nn.softmax(log_weight, axis=1))

    np.testing.assert_array_equal(chances("argmax"), np.eye(4)[q.argmax(axis=1)])
    np.testing.assert_allclose(chances("softmax"), jax.nn.softmax(q, axis=1), rtol=1e-5)
    weight = np.where(q - v[:, None] < 0, 0.1, 0.9)
    np.testing.assert_allclose(
        chances("implicit"), weight / weight.sum(axis=1, keepdims=True), rtol=1e-5
    )


def test_more_candidates_find_better_actions():
    config, state = make()
    observations = jnp.asarray(np.random.default_rng(0).normal(size=(64, 2)), jnp.float32)
    found = []
    for num_candidates in (1, 8, 64):
        actions = act(
            idql.acting_by(config, num_candidates),
            state,
            observations,
            jax.random.key(2),
            temperature=0.0,
        )
        q = idql.min_target_q(config, state.critic, observations, actions)
        found.append(float(q.mean()))
    assert found[0] < found[1] < found[2]


def test_exploring_has_a_rule_of_its_own():
    config, state = make(num_candidates=16, exploration_rule="implicit")
    greedy = idql.acting_by(config, 16)
    greedy = dataclasses.replace(
        greedy, acting=dataclasses.replace(greedy.acting, exploration_rule="argmax")
    )
    observations = jnp.ones((50, 2))

    def actions(config, temperature):
        return np.asarray(
            act(config, state, observations, jax.random.key(3), temperature=temperature)
        )

    np.testing.assert_array_equal(actions(config, 0.0), actions(greedy, 0.0))
    np.testing.assert_array_equal(actions(greedy, 1.0), actions(greedy, 0.0))
    assert not np.array_equal(actions(config, 1.0), actions(config, 0.0))


def test_another_way_to_act_compiles_no_training():
    config, state = make()
    update(config, state, batch(), jax.random.key(0))
    before = update._cache_size()
    softmax = idql.acting_by(config, 3, "softmax")
    act(softmax, state, jnp.ones((1, 2)), jax.random.key(0), temperature=0.0)
    update(config, state, batch(), jax.random.key(1))
    assert update._cache_size() == before


def test_the_critic_learns_from_every_second_row_where_it_is_to_see_half():
    config, state = make()
    left, right = batch(), batch(seed=1)
    mixed = jax.tree.map(lambda a, b: a.at[1::2].set(b[1::2]), left, right)
    after = [update(config, state, x, jax.random.key(0))[0] for x in (left, mixed)]
    jax.tree.map(np.testing.assert_array_equal, after[0].critic, after[1].critic)
    kernels = [jax.tree.leaves(x.policy.params)[-1] for x in after]
    assert not np.array_equal(*kernels)


def test_the_policy_takes_a_step_for_each_part_of_the_batch():
    config, state = make(policy_updates=2)
    after, _ = update(config, state, batch(), jax.random.key(0))
    assert after.policy.opt_state.count == 2
    assert after.critic.q.opt_state.count == 1


def test_the_average_follows_the_policy():
    config, state = make(ema_rate=0.25)
    after, _ = update(config, state, batch(), jax.random.key(0))
    expected = jax.tree.map(
        lambda new, old: 0.25 * new + 0.75 * old, after.policy.params, state.policy.params
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        after.average_policy_params,
        expected,
    )


def test_online_the_policy_may_stay():
    config, state = make(finetune_policy=False)
    after, metrics = update(idql.for_online_training(config), state, batch(), jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, after.policy, state.policy)
    assert after.step == 1 and "critic_loss" in metrics and "actor_loss" not in metrics
    config, _ = make(finetune_policy=True)
    assert idql.for_online_training(config) == config


def test_weight_decay_shrinks_the_policy():
    def norm(weight_decay):
        config, state = make(weight_decay=weight_decay)
        after, _ = update(config, state, batch(), jax.random.key(0))
        return sum(float((x**2).sum()) for x in jax.tree.leaves(after.policy.params))

    assert norm(10.0) < norm(0.0)


@pytest.mark.parametrize("weighting", ["none", "exponential", "implicit", "hard"])
def test_weighting_of_the_policys_loss(weighting):
    config, state = make(weighting=weighting)
    transitions = batch()
    weight = idql.policy_weight(config, state.hyper, state.critic, transitions)
    adv = np.asarray(iql.diagnose(config, state, transitions)["adv"])
    expected = {
        "none": np.ones(8),
        "exponential": np.minimum(np.exp(10 * adv), 100),
        "implicit": np.where(adv < 0, 0.1, 0.9),
        "hard": adv >= -0.01,
    }
    np.testing.assert_allclose(weight, expected[weighting], rtol=1e-4)
    _, metrics = update(config, state, transitions, jax.random.key(0))
    np.testing.assert_allclose(metrics["weight"], expected[weighting].mean(), rtol=1e-4)


@pytest.mark.parametrize("objective", losses.CRITIC_OBJECTIVES)
def test_every_objective_trains_and_acts(objective):
    run = dataclasses.replace(SMALL, critic_objective=objective)
    config, state = make(run, acting_rule="implicit", activation="swish")
    after, metrics = update(config, state, batch(), jax.random.key(0))
    assert all(jnp.isfinite(value) for value in metrics.values())
    assert jnp.isfinite(
        act(config, after, jnp.ones((4, 2)), jax.random.key(1), temperature=0.0)
    ).all()
