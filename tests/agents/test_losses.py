"""Losses against literal numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iql_jax.agents import losses, optim


@pytest.mark.parametrize(
    ("diff", "expectile", "expected"),
    [
        (2.0, 0.7, 2.8),  # 0.7 * 4
        (-2.0, 0.7, 1.2),  # 0.3 * 4
        (0.0, 0.7, 0.0),
        (3.0, 0.5, 4.5),  # half the square
        (-0.5, 0.9, 0.025),
    ],
)
def test_expectile_loss(diff, expectile, expected):
    np.testing.assert_allclose(losses.expectile_loss(jnp.float32(diff), expectile), expected, 1e-6)


def test_the_expectile_is_where_the_loss_is_least():
    values = jnp.array([0.0, 1.0, 10.0])
    candidates = jnp.linspace(0, 10, 10001)
    loss = losses.expectile_loss(values[None] - candidates[:, None], 0.9).sum(axis=1)
    # 0.1 (x + x - 1) = 0.9 (10 - x)
    np.testing.assert_allclose(candidates[loss.argmin()], 9.1 / 1.1, atol=1e-3)


@pytest.mark.parametrize(
    ("adv", "temperature", "expected"),
    [(0.0, 3.0, 1.0), (0.5, 2.0, np.e), (-1.0, 1.0, 1 / np.e), (10.0, 10.0, 100.0), (5.0, 0, 1.0)],
)
def test_awr_weight(adv, temperature, expected):
    np.testing.assert_allclose(losses.awr_weight(jnp.float32(adv), temperature), expected, 1e-6)


def test_awr_weight_stays_finite_for_any_advantage():
    assert losses.awr_weight(jnp.float32(1e6), 10.0) == 100.0


@pytest.mark.parametrize(
    ("action", "mean", "log_std", "expected"),
    [
        ([0.0], [0.0], [0.0], -0.9189385),  # -log sqrt(2 pi)
        ([1.0], [0.0], [0.0], -1.4189385),
        ([1.0], [0.0], [np.log(2.0)], -1.7370857),  # -1/8 - log 2 - 0.9189385
        ([1.0, 0.0], [0.0, 0.0], [0.0, 0.0], -2.3378771),
    ],
)
def test_gaussian_log_prob(action, mean, log_std, expected):
    arrays = (jnp.array(x, jnp.float32) for x in (action, mean, log_std))
    np.testing.assert_allclose(losses.gaussian_log_prob(*arrays), expected, rtol=1e-6)


def test_cosine_decay():
    rate = jnp.float32(1.0)
    for step, expected in [(0, 1.0), (25, 0.8535534), (50, 0.5), (100, 0.0), (150, 0.0)]:
        decayed = optim.cosine_decay(rate, jnp.int32(step), jnp.float32(100))
        np.testing.assert_allclose(decayed, expected, atol=1e-6)
    assert optim.cosine_decay(rate, jnp.int32(10**6), jnp.float32(jnp.inf)) == 1.0


def test_polyak():
    mixed = optim.polyak({"w": jnp.array([1.0])}, {"w": jnp.array([3.0])}, jnp.float32(0.25))
    np.testing.assert_allclose(mixed["w"], [2.5])


def test_a_step_of_adam():
    learner = optim.init_learner({"w": jnp.array(1.0)})

    def loss_fn(params):
        loss = 4.0 * params["w"]
        return loss, {"loss": loss}

    after, metrics = jax.jit(lambda x: optim.minimize(loss_fn, x, jnp.float32(0.1)))(learner)
    # Adam's first step is the sign of the gradient times the rate.
    np.testing.assert_allclose(after.params["w"], 0.9, rtol=1e-6)
    np.testing.assert_allclose(metrics["loss"], 4.0)
