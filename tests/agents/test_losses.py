"""Losses against literal numbers."""

import types

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


@pytest.mark.parametrize(
    ("diff", "quantile", "expected"), [(2.0, 0.7, 1.4), (-2.0, 0.7, 0.6), (0.0, 0.7, 0.0)]
)
def test_quantile_loss(diff, quantile, expected):
    np.testing.assert_allclose(losses.quantile_loss(jnp.float32(diff), quantile), expected, 1e-6)


@pytest.mark.parametrize(
    ("diff", "alpha", "expected", "slope"),
    [
        (1.0, 1.0, np.e - 1, np.e - 1),
        (-1.0, 1.0, 1 - 1 / np.e, 1 / np.e - 1),
        (0.5, 2.0, (np.e - 1) / 2, np.e - 1),
        (10.0, 1.0, 50.0, 5.0),  # exp is bounded by 6
        (0.0, 3.0, 0.0, 0.0),
    ],
)
def test_exponential_loss(diff, alpha, expected, slope):
    loss, gradient = jax.value_and_grad(losses.exponential_loss)(jnp.float32(diff), alpha)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, slope, rtol=1e-5, atol=1e-7)


NUMBERS = types.SimpleNamespace(expectile=0.9, quantile=0.8, exponential_alpha=0.5)


@pytest.mark.parametrize(
    ("objective", "adv", "expected"),
    [
        ("expectile", 2.0, 0.9),
        ("expectile", -2.0, 0.1),
        ("quantile", 2.0, 0.4),
        ("quantile", -2.0, 0.1),  # positive, where the authors' code has -0.1
        ("exponential", 2.0, 0.5 * (np.e - 1) / 2),
        ("exponential", -2.0, 0.5 * (1 - 1 / np.e) / 2),
        ("exponential", 0.0, 0.25),  # alpha^2, its limit
    ],
)
def test_implicit_weight(objective, adv, expected):
    weight = losses.implicit_weight(objective, jnp.float32(adv), NUMBERS)
    np.testing.assert_allclose(weight, expected, rtol=1e-5)


@pytest.mark.usefixtures("all_optimizations")  # the grid meets a Q, where rounding decides
@pytest.mark.parametrize("objective", losses.CRITIC_OBJECTIVES)
def test_v_is_the_mean_of_q_under_the_implicit_policy(objective):
    # The IDQL paper's theorem on implicit policies, for actions of equal probability.
    q = jnp.array([0.0, 0.5, 2.0, 3.0])

    def slope(v):
        return jax.grad(lambda v: losses.value_loss(objective, q - v, NUMBERS).sum())(v)

    values = jnp.linspace(-1.0, 4.0, 100001)
    v = values[jnp.argmax(jax.vmap(slope)(values) >= 0)]  # convex: the loss falls until here
    assert 0 < v <= 3
    weight = losses.implicit_weight(objective, q - v, NUMBERS)
    # For the quantile, V is one of the actions' Q itself, whose weight outgrows all others.
    np.testing.assert_allclose((weight * q).sum() / weight.sum(), v, atol=1e-3)


@pytest.mark.parametrize("objective", losses.CRITIC_OBJECTIVES)
def test_implicit_weights_are_finite_and_not_negative(objective):
    adv = jnp.array([-1e6, -1.0, -1e-30, 0.0, 1e-30, 1.0, 1e6])
    weight = losses.implicit_weight(objective, adv, NUMBERS)
    assert jnp.isfinite(weight).all() and (weight >= 0).all()


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
    decayed, _ = optim.minimize(loss_fn, learner, jnp.float32(0.1), jnp.float32(0.5))
    np.testing.assert_allclose(decayed.params["w"], 0.9 - 0.1 * 0.5, rtol=1e-6)
