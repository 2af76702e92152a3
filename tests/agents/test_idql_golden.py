"""Critic, noise predictor, schedules and sampler equal the authors' code number for number."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iql_jax.agents import diffusion, idql, iql
from iql_jax.agents.optim import init_learner
from iql_jax.config import DiffusionSettings, RunConfig
from tests.golden import batch, idql_params, idql_policy, load

pytestmark = pytest.mark.usefixtures("all_optimizations")

OBJECTIVES = {"expectile": "expectile", "quantile": "quantile", "exponential": "exponential_alpha"}


@functools.cache
def golden(path, objective):
    """Returns arrays, meta data, our configuration and our numbers for a golden file."""
    arrays, meta = load(path)
    settings = RunConfig(
        agent="idql",
        hidden_dims=tuple(meta["critic_hidden_dims"]),
        critic_objective=objective,
        diffusion=DiffusionSettings(
            hidden_dim=meta["actor_hidden_dim"],
            num_blocks=meta["actor_num_blocks"],
            time_dim=meta["time_dim"],
            num_diffusion_steps=meta["T"],
        ),
    )
    settings = dataclasses.replace(settings, **{OBJECTIVES[objective]: meta["critic_hyperparam"]})
    config = idql.make_config(settings.settings(), meta["obs_dim"], meta["action_dim"])
    return arrays, meta, config, idql.make_hyperparameters(settings.settings())


@pytest.fixture(params=OBJECTIVES)
def pinned(request, shared):
    return golden(shared / "golden" / f"idql_{request.param}.npz", request.param)


def deviation(ours, theirs):
    """Largest relative error over layers, kernel and bias together: ||ours - theirs|| / ||theirs||.

    Together, for Adam divides the gradient of a unit's bias by its own size: where that gradient is
    near 0, the authors' float32 and float64 differ by 5e-4 of the bias too.
    """

    def flat(layer):
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(layer)])

    errors = jax.tree.map(
        lambda a, b: float(np.linalg.norm(flat(a) - flat(b)) / np.linalg.norm(flat(b))),
        ours,
        theirs,
        is_leaf=lambda node: "kernel" in node,
    )
    return max(jax.tree.leaves(errors))


def test_critic_updates_equal_the_authors(pinned):
    arrays, meta, config, hyper = pinned
    initial = idql_params(arrays, "init")
    critic = iql.CriticState(
        value=init_learner(initial["value"]),
        q=init_learner(initial["q"]),
        target_q_params=initial["target_q"],
    )
    update = jax.jit(iql.update_critic, static_argnums=0)
    for t in range(meta["num_updates"]):
        critic, _, metrics = update(config, hyper, critic, batch(arrays, t))
        for name in ("value_loss", "critic_loss", "v", "q"):
            np.testing.assert_allclose(
                metrics[name], arrays[f"info/{name}"][t], rtol=1e-4, atol=1e-5
            )
    ours = {"value": critic.value.params, "q": critic.q.params, "target_q": critic.target_q_params}
    worst = deviation(ours, idql_params(arrays, f"step{meta['num_updates']}"))
    print(f"{config.critic_objective}: largest relative deviation after 10 updates {worst:.1e}")
    assert worst < 1e-4


def test_noise_predictor_and_loss_equal_the_authors(pinned):
    arrays, _, config, _ = pinned
    params = idql_policy(arrays, "score_model", config.diffusion.num_blocks)
    observations, actions = arrays["observations"][0], arrays["actions"][0]
    steps, noise = jnp.asarray(arrays["ddpm/times"], jnp.int32), arrays["ddpm/noise"]
    noisy = diffusion.add_noise(config.diffusion, actions, noise, steps)
    np.testing.assert_allclose(noisy, arrays["ddpm/noisy_actions"], atol=1e-5)
    network = diffusion.NoisePredictor(config.diffusion, config.observation_dim)
    predicted = jax.jit(network.apply)(params, observations, noisy, steps)
    error = np.abs(predicted - arrays["ddpm/predicted_noise"]).max()
    print(f"{config.critic_objective}: largest deviation of the predicted noise {error:.1e}")
    assert error < 1e-5
    loss = ((predicted - noise) ** 2).sum(axis=-1).mean()
    np.testing.assert_allclose(loss, arrays["ddpm/loss"], rtol=1e-5)


def test_sampler_equals_the_authors(pinned):
    arrays, _, config, _ = pinned
    params = idql_policy(arrays, "target_score_model", config.diffusion.num_blocks)
    start = jnp.asarray(arrays["sampler/start_noise"])[:, None]
    denoise = jax.jit(diffusion.denoise, static_argnums=0)
    actions = denoise(
        config.diffusion, params, arrays["observations"][0], start, jax.random.key(0), 0.0
    )[:, 0]
    theirs = arrays["sampler/actions_temperature0"]
    error, largest = np.linalg.norm(actions - theirs), np.abs(actions - theirs).max()
    relative = error / np.linalg.norm(theirs)
    print(
        f"{config.critic_objective}: sampled actions, relative {relative:.1e}, most {largest:.1e}"
    )
    assert relative < 1e-5
    assert largest < 2e-5  # what float64 and the authors' float32 differ by in one of 512 numbers


@pytest.mark.parametrize("name", ["vp", "cosine"])
@pytest.mark.parametrize("num_steps", [5, 10, 50])
def test_schedules_equal_the_authors(shared, name, num_steps):
    arrays, _ = load(shared / "golden" / "idql_expectile.npz")
    ours = diffusion.noise_rates(name, num_steps)
    np.testing.assert_allclose(ours, arrays[f"schedule/{name}_{num_steps}"], atol=1e-6)


def test_the_products_of_the_schedule_equal_the_authors(pinned):
    arrays, _, config, _ = pinned
    betas = diffusion.noise_rates(config.diffusion.schedule, config.diffusion.num_diffusion_steps)
    np.testing.assert_allclose(betas, arrays["ddpm/betas"], atol=1e-6)
    np.testing.assert_allclose(np.cumprod(1 - betas), arrays["ddpm/alpha_hats"], atol=1e-6)
