"""What every agent must keep, whatever it learns."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iql_jax import agents
from iql_jax.config import DiffusionSettings, RunConfig
from iql_jax.errors import InputError
from iql_jax.types import Batch

OBSERVATION_DIM, ACTION_DIM, BATCH = 5, 3, 8


@pytest.fixture(params=sorted(agents.AGENTS))
def made(request):
    """The agent, its configuration and a fresh state."""
    tiny = DiffusionSettings(hidden_dim=8, num_blocks=1, time_dim=4, time_hidden_dims=(8,))
    settings = RunConfig(agent=request.param, hidden_dims=(16, 16), diffusion=tiny).settings()
    agent = agents.get(request.param)
    config = agent.make_config(settings, OBSERVATION_DIM, ACTION_DIM)
    state = agent.init(config, agent.make_hyperparameters(settings), jax.random.key(0))
    return agent, config, state


def batch(seed=0):
    rng = np.random.default_rng(seed)
    return Batch(
        observations=jnp.asarray(rng.normal(size=(BATCH, OBSERVATION_DIM)), jnp.float32),
        actions=jnp.asarray(rng.uniform(-1, 1, size=(BATCH, ACTION_DIM)), jnp.float32),
        rewards=jnp.asarray(rng.normal(size=BATCH), jnp.float32),
        masks=jnp.asarray(rng.integers(0, 2, size=BATCH), jnp.float32),
        next_observations=jnp.asarray(rng.normal(size=(BATCH, OBSERVATION_DIM)), jnp.float32),
    )


def test_the_configuration_is_static(made):
    _, config, _ = made
    assert hash(config) == hash(dataclasses.replace(config))
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.observation_dim = 1


def test_the_state_holds_arrays_of_its_own(made):
    _, _, state = made
    leaves = jax.tree.leaves(state)
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)
    assert not any(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in leaves if leaf.size > 1]
    assert len(set(pointers)) == len(pointers)  # buffers shared by two leaves cannot be donated


def test_an_update_changes_the_policy_and_counts(made):
    agent, config, state = made
    after, metrics = jax.jit(agent.update, static_argnums=0)(
        config, state, batch(), jax.random.key(1)
    )
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
    assert jax.tree.map(lambda x: x.dtype, after) == jax.tree.map(lambda x: x.dtype, state)
    assert after.step == 1
    assert metrics and all(m.shape == () and jnp.isfinite(m) for m in metrics.values())
    moved = [
        not np.array_equal(a, b)
        for a, b in zip(
            jax.tree.leaves(after.policy.params), jax.tree.leaves(state.policy.params), strict=True
        )
    ]
    assert any(moved)


def test_actions_are_bounded_and_repeat(made):
    agent, config, state = made
    observations = jnp.asarray(
        np.random.default_rng(1).normal(size=(100, OBSERVATION_DIM)) * 10, jnp.float32
    )

    def act(key, temperature):
        return agent.sample_actions(config, state, observations, key, temperature=temperature)

    mean = act(jax.random.key(0), 0.0)
    assert mean.shape == (100, ACTION_DIM) and mean.dtype == jnp.float32
    noisy = act(jax.random.key(0), 1.0)
    for actions in (mean, noisy, act(jax.random.key(0), 100.0)):
        assert jnp.abs(actions).max() <= 1.0
    np.testing.assert_array_equal(noisy, act(jax.random.key(0), 1.0))
    assert not np.array_equal(noisy, act(jax.random.key(1), 1.0))


def test_diagnosis_is_a_number_per_transition(made):
    agent, config, state = made
    found = jax.jit(agent.diagnose, static_argnums=0)(config, state, batch())
    assert found
    assert all(values.shape == (BATCH,) for values in found.values())
    assert all(np.std(values) > 0 for values in found.values())


def test_an_unknown_agent_is_named_with_the_known_ones():
    with pytest.raises(InputError, match=r"unknown agent 'sac': choose one of .*iql"):
        agents.get("sac")
