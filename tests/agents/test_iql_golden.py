"""The update equals the authors' code number for number."""

import jax
import numpy as np
import pytest

from iql_jax.agents import iql
from iql_jax.agents.optim import init_learner
from iql_jax.config import RunConfig
from tests.golden import batch, load, params

pytestmark = pytest.mark.usefixtures("all_optimizations")

FILES = {"mujoco": True, "antmaze": True, "finetune": False}  # with learning-rate decay?


def golden_state(arrays, meta, decay):
    run = RunConfig(
        hidden_dims=tuple(meta["hidden_dims"]),
        expectile=meta["expectile"],
        temperature=meta["temperature"],
        opt_decay_schedule="cosine" if decay else "none",
        max_steps=meta["max_steps"],
    )
    config = iql.make_config(run.settings(), meta["obs_dim"], meta["action_dim"])
    hyper = iql.make_hyperparameters(run.settings())
    initial = params(arrays, "init")
    critic = iql.CriticState(
        value=init_learner(initial["value"]),
        q=init_learner(initial["q"]),
        target_q_params=initial["target_q"],
    )
    return config, iql.IQLState(
        step=jax.numpy.zeros((), jax.numpy.int32),
        hyper=hyper,
        critic=critic,
        policy=init_learner(initial["policy"]),
    )


def deviation(ours, theirs):
    """Largest relative error over networks: ||ours - theirs|| / ||theirs|| leaf by leaf."""
    errors = jax.tree.map(
        lambda a, b: float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-3)), ours, theirs
    )
    return max(jax.tree.leaves(errors))


@pytest.mark.parametrize("name", FILES)
def test_update_equals_the_authors(shared, name):
    arrays, meta = load(shared / "golden" / f"{name}.npz")
    config, state = golden_state(arrays, meta, FILES[name])
    update = jax.jit(iql.update, static_argnums=0)
    tolerance = {1: 1e-5, 2: 1e-5, 20: 1e-4}
    for t in range(meta["num_updates"]):
        state, metrics = update(config, state, batch(arrays, t), jax.random.key(0))
        for theirs, ours in (
            (arrays["info/value_loss"][t], metrics["value_loss"]),
            (arrays["info/critic_loss"][t], metrics["critic_loss"]),
            (arrays["info/actor_loss"][t], metrics["actor_loss"]),
            (arrays["info/v"][t], metrics["v"]),
            ((arrays["info/q1"][t] + arrays["info/q2"][t]) / 2, metrics["q"]),
            (arrays["info/adv_mean"][t], metrics["adv"]),
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
        if t + 1 in meta["snapshots"]:
            expected = params(arrays, f"step{t + 1}")
            ours = {
                "policy": state.policy.params,
                "value": state.critic.value.params,
                "q": state.critic.q.params,
                "target_q": state.critic.target_q_params,
            }
            worst = deviation(ours, expected)
            print(f"{name}: largest relative deviation after {t + 1} updates {worst:.1e}")
            assert worst < tolerance[t + 1]
    actions = iql.sample_actions(
        config, state, arrays["probe/observations"], jax.random.key(0), temperature=0.0
    )
    np.testing.assert_allclose(actions, arrays["probe/mean_actions"], atol=1e-5)
