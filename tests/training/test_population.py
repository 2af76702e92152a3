"""The training program: chunks, members and devices change nothing that is computed."""

import dataclasses
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iql_jax import agents
from iql_jax.config import DiffusionSettings, RunConfig
from iql_jax.training import population

CONFIG = RunConfig(
    hidden_dims=(16, 16),
    batch_size=8,
    diffusion=DiffusionSettings(hidden_dim=8, num_blocks=1, time_dim=4, critic_batch_size=4),
)


def make(seeds, config=CONFIG, layout=None, observation_dim=3, action_dim=2, num_rows=50):
    """Returns (agent, agent config, layout, states, keys, rows, number of rows)."""
    agent = agents.get(config.agent)
    agent_config = agent.make_config(config.settings(), observation_dim, action_dim)
    layout = layout or population.choose_layout(len(seeds))
    hyper = population.stack_hyperparameters(
        [agent.make_hyperparameters(config.settings()) for _ in seeds]
    )
    init_keys, keys = population.member_keys(seeds)
    states = population.init_many(agent, agent_config, layout, hyper, init_keys)
    rows = np.random.default_rng(0).normal(size=(num_rows, 2 * observation_dim + action_dim + 2))
    rows = np.tanh(rows).astype(np.float32)
    rows[:, -1] = 1.0
    return (
        agent,
        agent_config,
        layout,
        states,
        jax.device_put(keys, layout.members(len(seeds))),
        jax.device_put(rows, layout.replicated),
        jax.device_put(jnp.int32(num_rows), layout.replicated),
    )


def train(made, *chunks, batch_size=CONFIG.batch_size):
    """Returns the states and the metrics of the last of several chunks of updates."""
    agent, agent_config, layout, states, keys, rows, num_rows = made
    for num_updates in chunks:
        states, metrics, broken_at = population.update_many(
            agent,
            agent_config,
            layout,
            states,
            keys,
            rows,
            num_rows,
            batch_size=batch_size,
            num_updates=num_updates,
        )
    return states, metrics, broken_at


def assert_identical(left, right):
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(a, b)


# Behaviour cloning is part of IQL, and each compiles for seconds.
EVERY_AGENT = [
    pytest.param(agent, marks=pytest.mark.slow if agent == "bc" else ())
    for agent in sorted(agents.AGENTS)
]


@pytest.mark.parametrize("agent", EVERY_AGENT)
def test_the_length_of_a_chunk_changes_nothing(agent):
    config = dataclasses.replace(CONFIG, agent=agent, dropout_rate=0.1)  # dropout draws keys too
    whole, _, _ = train(make([0, 1], config), 20)
    halves, _, _ = train(make([0, 1], config), 10, 10)
    assert_identical(whole, halves)


@pytest.mark.parametrize(
    "agent", ["iql", *(pytest.param(agent, marks=pytest.mark.slow) for agent in ("bc", "idql"))]
)
def test_a_member_trains_alike_alone_and_among_others(agent):
    config = dataclasses.replace(CONFIG, agent=agent)
    together, _, _ = train(make([3, 4, 5], config), 10)
    alone, _, _ = train(make([4], config), 10)
    for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a[1], b[0], rtol=1e-5, atol=1e-6)


def test_members_by_vmap_equal_members_in_turn():
    mesh = population.choose_layout(1).mesh
    by_vmap = population.Layout(mesh=mesh, vectorized=True)
    in_turn = population.Layout(mesh=mesh, vectorized=False)
    left, _, _ = train(make([0, 1, 2], layout=by_vmap), 5)
    right, _, _ = train(make([0, 1, 2], layout=in_turn), 5)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_seeds_differ_and_repeat():
    states, _, _ = train(make([0, 1]), 5)
    again, _, _ = train(make([0, 1]), 5)
    assert_identical(states, again)
    kernel = jax.tree.leaves(states.policy.params)[-1]
    assert not np.allclose(kernel[0], kernel[1])


def test_one_compile_for_a_run():
    made = make([0, 1])
    before = population.update_many.num_compiled()
    train(made, 7, 7, 7)
    assert population.update_many.num_compiled() == before + 1


def test_a_hyperparameter_changes_without_compiling():
    made = make([0, 1])
    train(made, 6)
    before = population.update_many.num_compiled()
    changed = dataclasses.replace(CONFIG, expectile=0.9, actor_lr=1e-3)
    left, _, _ = train(make([0, 1], changed), 6)
    right, _, _ = train(make([0, 1]), 6)
    assert population.update_many.num_compiled() == before
    assert not np.allclose(
        jax.tree.leaves(left.critic.value.params)[0], jax.tree.leaves(right.critic.value.params)[0]
    )


def test_the_state_is_donated():
    made = make([0])
    states = made[3]
    train(made, 3)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(states.policy.params))


def test_metrics_are_means_over_the_chunk():
    _, whole, _ = train(make([0]), 4)
    made = list(make([0]))
    sums: dict = {}
    for _ in range(4):
        made[3], metrics, _ = train(made, 1)
        sums = {name: sums.get(name, 0.0) + np.asarray(value) for name, value in metrics.items()}
    for name, value in whole.items():
        np.testing.assert_allclose(value, sums[name] / 4, rtol=1e-5)


def test_the_first_broken_update_is_named():
    made = list(make([0, 1]))
    states = made[3]
    critic_lr = states.hyper.critic_lr.at[1].set(jnp.nan)
    made[3] = states.replace(hyper=states.hyper.replace(critic_lr=critic_lr))
    _, _, broken_at = train(made, 5)
    # The first update still measures finite losses; the parameters it leaves are not.
    np.testing.assert_array_equal(broken_at, [-1, 1])


def test_indices_cover_the_filled_rows_alone():
    indices = population.draw_indices(
        jax.random.key(0), jnp.arange(5, 37), jnp.int32(7), batch_size=64
    )
    assert set(np.unique(indices)) == set(range(7))
    assert len({tuple(row) for row in np.asarray(indices)}) == 32


def test_uneven_members_leave_no_core_of_the_host_idle():
    assert population.host_devices(num_members=1, num_cores=2) == 1
    assert population.host_devices(num_members=3, num_cores=2) == 1
    assert population.host_devices(num_members=4, num_cores=2) == 2
    assert population.host_devices(num_members=6, num_cores=4) == 3


DEVICES = """
import sys
import jax
jax.config.update("jax_num_cpu_devices", 4)
from jax.sharding import Mesh
import numpy as np
from iql_jax.training import population
from tests.training.test_population import make, train
results = []
for devices in (jax.devices()[:1], jax.devices()):
    layout = population.Layout(Mesh(np.array(devices), ("members",)), vectorized=False)
    before = population.update_many.num_compiled()
    states, metrics, _ = train(make(range(6), layout=layout), 5, 5)
    assert population.update_many.num_compiled() == before + 1
    results.append(jax.tree.leaves((states, metrics)))
assert len(jax.devices()) == 4
for a, b in zip(*results, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
"""


def test_four_devices_equal_one(repository):
    # Six members on four devices leave two places empty.
    environment = os.environ | {"PYTHONPATH": str(repository)}
    subprocess.run([sys.executable, "-c", DEVICES], env=environment, check=True)
