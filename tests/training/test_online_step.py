"""The programs between two environment steps: what they take, and what they give."""

import jax
import jax.numpy as jnp
import numpy as np

from iql_jax.agents import iql
from iql_jax.config import RunConfig
from iql_jax.data import replay
from iql_jax.training import online_buffer, online_step, population, slots

OBSERVATION_DIM, ACTION_DIM = 3, 2
WIDTH = replay.row_width(OBSERVATION_DIM, ACTION_DIM)


def make(num_members):
    """Returns the configuration, the layout, the slots and the keys of fresh members of IQL."""
    settings = RunConfig(hidden_dims=(100, 100)).settings()
    config = iql.make_config(settings, OBSERVATION_DIM, ACTION_DIM)
    layout = population.choose_layout(num_members, jax.devices()[:1])
    hyper = population.stack_hyperparameters(num_members * [iql.make_hyperparameters(settings)])
    init_keys, keys = population.member_keys(range(num_members))
    states = population.init_many(iql, config, layout, hyper, init_keys)
    return config, layout, slots.split(layout, states), keys


def test_acting_takes_the_policy_alone():
    config, _, members, _ = make(1)
    part = online_step.acting_part(iql, config, members)(members)
    # The second kernels of V, of Q twice and of the policy, their moments, and the target's.
    assert len(members[0].large) == 14
    assert len(part[0].large) == 1


def test_acting_stores_what_was_lived_and_adds_noise_where_asked_to():
    config, layout, members, keys = make(2)
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2, WIDTH)).astype(np.float32)
    observations = rng.normal(size=(2, OBSERVATION_DIM)).astype(np.float32)

    acting_keys = online_step.ActingKeys(layout, keys)

    def act(temperature, action_noise):
        return online_step.act(
            iql,
            config,
            layout,
            online_step.acting_part(iql, config, members)(members),
            online_buffer.init_buffer(2, 4, WIDTH),
            acting_keys.of(6),
            online_step.pack_news(rows, observations, env_step=6, position=17, measured=5),
            observation_dim=OBSERVATION_DIM,
            temperature=temperature,
            action_noise=action_noise,
        )

    mean, buffer, counts = act(0.0, 0.0)
    np.testing.assert_array_equal(counts, [[6, 17, 5]] * 2)
    np.testing.assert_array_equal(buffer[:, 1], rows)  # the sixth transition, in a ring of 4
    np.testing.assert_array_equal(np.delete(buffer, 1, axis=1), 0.0)
    states = slots.join(layout, members)
    for member in range(2):
        expected = iql.sample_actions(
            config,
            jax.tree.map(lambda x, member=member: x[member], states),
            observations[member][None],
            keys[member],
            temperature=0.0,
        )[0]
        np.testing.assert_allclose(mean[member], expected, rtol=1e-6)
    sampled, noisy, noisier = act(1.0, 0.0)[0], act(0.0, 0.01)[0], act(0.0, 1000.0)[0]
    assert (np.abs(sampled - mean) > 0).all()
    assert (np.abs(noisy - mean) > 0).all() and (np.abs(noisy - mean) < 0.06).all()
    np.testing.assert_array_equal(np.abs(noisier), 1.0)


def test_every_step_and_member_acts_with_keys_of_its_own():
    layout = population.choose_layout(2)
    _, keys = population.member_keys(range(2))
    acting_keys = online_step.ActingKeys(layout, keys)
    num_steps = acting_keys.of(0).shape[1]
    for env_step in (3, num_steps + 3, 2 * num_steps - 1):
        for member in range(2):
            key = jax.random.clone(keys)[member]
            step_key = jax.random.fold_in(jax.random.fold_in(key, 2), env_step)
            np.testing.assert_array_equal(
                acting_keys.of(env_step)[member, env_step % num_steps],
                jax.random.key_data(jax.random.split(step_key)),
            )
    every = np.concatenate([acting_keys.of(0), acting_keys.of(num_steps)]).reshape(-1, 2)
    assert len(np.unique(every, axis=0)) == len(every)


def test_what_was_measured_is_read_once_and_in_order():
    layout = population.choose_layout(2, jax.devices()[:1])
    measurements = online_step.Measurements(layout, ["a", "b", "c"], 2)
    expected = np.random.default_rng(0).normal(size=(1700, 2, 3)).astype(np.float32)
    expected[3, 1, 2] = np.nan
    broken_at = np.arange(3400, dtype=np.int32).reshape(1700, 2) - 1
    for begin, end in [(0, 0), (0, 5), (5, 700), (700, 1700)]:  # the last ones go round the end
        for step in range(begin, end):
            assert not measurements.full
            rows = np.array(measurements.rows)
            place = measurements.num_steps % rows.shape[1]
            rows[:, place, :3] = expected[step].view(np.int32)
            rows[:, place, 3] = broken_at[step]
            measurements.add(jnp.asarray(rows))
        assert measurements.full == (end - begin == measurements.rows.shape[1])
        values, broken = measurements.read()
        np.testing.assert_array_equal(values, expected[begin:end])
        np.testing.assert_array_equal(broken, broken_at[begin:end])
    assert measurements.read()[0].shape == (0, 2, 3)
