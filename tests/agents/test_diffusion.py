"""The diffusion model: its parts against plain formulas, and samples of a known distribution."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from iql_jax.agents import diffusion
from iql_jax.agents.optim import init_learner, minimize

CONFIG = diffusion.DiffusionConfig(
    action_dim=2,
    hidden_dim=8,
    num_blocks=1,
    time_dim=4,
    time_hidden_dims=(8, 8),
    activation="mish",
    dropout_rate=0.0,
    num_diffusion_steps=5,
    schedule="vp",
)


def test_mish_is_x_tanh_softplus():
    x = np.linspace(-30, 200, 2301)
    expected = x * np.tanh(np.log1p(np.exp(np.minimum(x, 700.0))))
    np.testing.assert_allclose(diffusion.mish(x.astype(np.float32)), expected, rtol=2e-6, atol=1e-9)
    slope = jax.vmap(jax.grad(diffusion.mish))(jnp.float32(x))
    assert jnp.isfinite(slope).all()
    np.testing.assert_allclose(slope, np.gradient(expected, x), atol=2e-3)


def test_noise_rates():
    np.testing.assert_allclose(diffusion.noise_rates("linear", 3), [1e-4, 1.005e-2, 2e-2])
    # Both others leave almost nothing of the action after the last step.
    for schedule in ("vp", "cosine"):
        for num_steps in (1, 5, 100):
            betas = diffusion.noise_rates(schedule, num_steps)
            assert betas.shape == (num_steps,) and (betas > 0).all() and (betas < 1).all()
            assert np.prod(1 - betas) < 0.01


def test_noise_is_added_step_by_step():
    # The closed form has the variance of the chain x <- sqrt(1 - beta) x + sqrt(beta) noise.
    betas = diffusion.noise_rates("vp", 5)
    scale, variance = 1.0, 0.0
    for step in range(5):
        scale, variance = (
            scale * np.sqrt(1 - betas[step]),
            variance * (1 - betas[step]) + betas[step],
        )
        steps, one, zero = jnp.full(1, step), jnp.ones((1, 2)), jnp.zeros((1, 2))
        kept = diffusion.add_noise(CONFIG, one, zero, steps)
        added = diffusion.add_noise(CONFIG, zero, one, steps)
        np.testing.assert_allclose(kept, np.full((1, 2), scale), rtol=1e-5)
        np.testing.assert_allclose(added, np.full((1, 2), np.sqrt(variance)), rtol=1e-5)


def test_candidates_that_share_a_state_equal_candidates_with_one_each():
    params = diffusion.init(CONFIG, 3, jax.random.key(0))
    network = diffusion.NoisePredictor(CONFIG, 3)
    rng = np.random.default_rng(0)
    observations = jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)
    candidates = jnp.asarray(rng.normal(size=(4, 6, 2)), jnp.float32)

    @jax.jit
    def shared(params, observations, candidates):
        state_part = network.apply(params, observations, method="embed_observations")
        step_part = network.apply(params, method="embed_steps")[3]
        context = (state_part + step_part[None])[:, None]
        return network.apply(params, candidates, context, method="predict")

    apart = jax.jit(network.apply)(
        params,
        observations.repeat(6, axis=0),
        candidates.reshape(24, 2),
        jnp.full(24, 3, jnp.int32),
    )
    np.testing.assert_allclose(
        shared(params, observations, candidates).reshape(24, 2), apart, atol=1e-5
    )


def test_dropout_acts_while_training_alone():
    config = diffusion.DiffusionConfig(**(vars(CONFIG) | {"dropout_rate": 0.5}))
    params = diffusion.init(config, 3, jax.random.key(0))
    network = diffusion.NoisePredictor(config, 3)
    inputs = (jnp.ones((4, 3)), jnp.ones((4, 2)), jnp.zeros(4, jnp.int32))
    apply = jax.jit(network.apply, static_argnames="training")
    acting = [apply(params, *inputs) for _ in range(2)]
    training = [
        apply(params, *inputs, training=True, rngs={"dropout": jax.random.key(seed)})
        for seed in range(2)
    ]
    np.testing.assert_array_equal(*acting)
    assert not np.allclose(*training)
    assert not np.allclose(acting[0], training[0])


def test_samples_follow_the_data():
    # One dimension, two states: 0 wants -0.6 or 0.6 (three to one), 1 wants 0.2.
    config = diffusion.DiffusionConfig(
        **vars(CONFIG)
        | {"action_dim": 1, "hidden_dim": 32, "num_diffusion_steps": 10, "schedule": "cosine"}
    )
    rng = np.random.default_rng(0)
    state = rng.integers(0, 2, 4096)
    action = np.where(state, 0.2, np.where(rng.random(4096) < 0.75, -0.6, 0.6))
    observations = jnp.asarray(np.eye(2)[state], jnp.float32)
    actions = jnp.asarray(action[:, None] + 0.02 * rng.normal(size=(4096, 1)), jnp.float32)

    @jax.jit
    def train(learner):
        def update(learner, key):
            row_key, loss_key = jax.random.split(key)
            rows = jax.random.randint(row_key, (256,), 0, 4096)

            def loss_fn(params):
                errors = diffusion.denoising_loss(
                    config, params, observations[rows], actions[rows], loss_key
                )
                return errors.mean(), {}

            return minimize(loss_fn, learner, jnp.float32(2e-3))[0], None

        return jax.lax.scan(update, learner, jax.random.split(jax.random.key(1), 1000))[0]

    params = train(init_learner(diffusion.init(config, 2, jax.random.key(0)))).params
    sample = jax.jit(functools.partial(diffusion.sample, config), static_argnums=2)
    samples = np.asarray(sample(params, jnp.eye(2), 2000, jax.random.key(2)))[..., 0]
    near = [np.mean(np.abs(samples[0] - mode) < 0.15) for mode in (-0.6, 0.6)]
    np.testing.assert_allclose(near, [0.75, 0.25], atol=0.1)
    np.testing.assert_allclose(np.median(samples[1]), 0.2, atol=0.05)
    assert np.mean(np.abs(samples[1] - 0.2) < 0.15) > 0.9
