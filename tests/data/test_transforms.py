import dataclasses
import json

import numpy as np
import pytest

from iql_jax.data import raw as raw_module
from iql_jax.data import transforms
from iql_jax.data.d4rl import episode_ends, qlearning_dataset
from iql_jax.errors import InputError

ONE_MINUS = np.float32(1 - 1e-5)


def test_rewards_stay_or_lose_one(make_dataset):
    raw = make_dataset()
    rewards = np.array([0.0, 1.0, 0.25], np.float64)
    none = transforms.fit_reward("none", raw)(rewards)
    np.testing.assert_array_equal(none, np.array([0.0, 1.0, 0.25], np.float32))
    assert none.dtype == np.float32
    minus = transforms.fit_reward("minus_one", raw)(rewards)
    np.testing.assert_array_equal(minus, np.array([-1.0, 0.0, -0.75], np.float32))
    assert minus.dtype == np.float32


def test_the_return_range_becomes_1000(make_dataset):
    raw = make_dataset(
        rows=6,
        rewards=np.array([1, 2, 3, -1, -1, 0], np.float32),  # returns 6 and -2
    )
    np.testing.assert_array_equal(transforms.episode_returns(raw), [6.0, -2.0])
    transform = transforms.fit_reward("return_range_1000", raw)
    assert transform == transforms.RewardTransform("return_range_1000", scale=125.0, shift=0.0)
    np.testing.assert_array_equal(transform(raw.rewards), [125, 250, 375, -125, -125, 0])


def test_a_single_episode_has_no_return_range(make_dataset):
    one = make_dataset(ends=np.arange(12) == 11)
    with pytest.raises(
        InputError,
        match=r"test/small: reward transform 'return_range_1000' divides by the range of episode "
        r"returns, which is 0 \(1 episode.*--config.reward_transform=none",
    ):
        transforms.fit_reward("return_range_1000", one)
    same = make_dataset(rewards=np.zeros(12, np.float32))
    with pytest.raises(InputError, match=r"which is 0 \(2 episode"):
        transforms.fit_reward("return_range_1000", same)


@pytest.mark.parametrize("name", ["timeouts", "no_timeouts", "sparse"])
def test_the_authors_rewards_and_actions(shared, name, make_dataset):
    golden = np.load(shared / "golden" / f"qlearning_{name}.npz")
    arrays = {key[4:]: golden[key] for key in golden if key.startswith("raw/")}
    rows = qlearning_dataset(arrays, int(golden["max_episode_steps"]))
    raw = make_dataset(
        observations=rows["observations"],
        actions=rows["actions"],
        rewards=rows["rewards"],
        masks=1 - rows["terminals"].astype(np.float32),
        next_observations=rows["next_observations"],
        ends=episode_ends(rows["observations"], rows["next_observations"], rows["terminals"]),
    )
    reward = transforms.fit_reward("return_range_1000", raw)
    # One multiplication here, a division and a multiplication there: the last bits differ.
    np.testing.assert_allclose(
        reward(raw.rewards), golden["official/rewards_return_normalised"], rtol=5e-7, atol=0
    )
    action = transforms.fit_action("none", raw)
    np.testing.assert_array_equal(action.to_unit(raw.actions), golden["official/actions"])


def test_standardized_observations_have_mean_zero_and_deviation_one(make_dataset):
    rng = np.random.default_rng(0)
    observations = rng.normal([0, 100, -3], [1, 20, 0], (5000, 3)).astype(np.float32)
    raw = make_dataset(observations=observations)
    transform = transforms.fit_observation("standardize", raw)
    assert transform.mean.dtype == transform.std.dtype == np.float32
    np.testing.assert_allclose(transform.mean, observations.mean(axis=0, dtype=np.float64), 1e-6)
    np.testing.assert_allclose(
        transform.std, observations.std(axis=0, dtype=np.float64) + 1e-3, rtol=1e-6
    )
    result = transform(observations)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.mean(axis=0, dtype=np.float64), 0, atol=1e-4)
    np.testing.assert_allclose(result[:, :2].std(axis=0), 1, atol=2e-3)
    np.testing.assert_array_equal(result[:, 2], 0)  # a constant does not blow up
    np.testing.assert_array_equal(transform(observations[7]), result[7])  # one row, as online


def test_standardization_does_not_depend_on_the_chunks(monkeypatch, make_dataset):
    raw = make_dataset(rows=100)
    expected = transforms.fit_observation("standardize", raw)
    monkeypatch.setattr(raw_module, "_CHUNK_BYTES", 100)
    found = transforms.fit_observation("standardize", raw)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found.std, expected.std, rtol=1e-6)


def test_observations_stay_the_same_array(make_dataset):
    raw = make_dataset()
    transform = transforms.fit_observation("none", raw)
    assert transform(raw.observations) is raw.observations
    assert transform.mean.shape == transform.std.shape == (3,)


def test_actions_are_clipped_as_the_authors_do(make_dataset):
    raw = make_dataset()
    transform = transforms.fit_action("none", raw)
    actions = np.array([[-1.0, 1.0], [0.5, 0.999995]], np.float32)
    unit = transform.to_unit(actions)
    np.testing.assert_array_equal(
        unit, np.array([[-ONE_MINUS, ONE_MINUS], [0.5, ONE_MINUS]], np.float32)
    )
    assert actions[0, 0] == -1.0  # the dataset itself is left alone
    np.testing.assert_array_equal(
        transform.to_env(np.array([[-1.5, 0.25]], np.float32)), [[-1.0, 0.25]]
    )


def test_rescaled_actions_go_there_and_back(make_dataset):
    rng = np.random.default_rng(1)
    low, high = np.array([-2.0, 0.0], np.float32), np.array([2.0, 10.0], np.float32)
    actions = rng.uniform(low, high, (500, 2)).astype(np.float32)
    transform = transforms.fit_action("rescale", make_dataset(actions=actions), low, high)
    unit = transform.to_unit(actions)
    assert unit.dtype == np.float32
    np.testing.assert_allclose(unit[:, 0], actions[:, 0] / 2, atol=1.1e-5)
    np.testing.assert_allclose(unit[:, 1], actions[:, 1] / 5 - 1, atol=1.1e-5)
    assert np.abs(unit).max() <= ONE_MINUS
    np.testing.assert_allclose(transform.to_env(unit), actions, atol=6e-5)
    np.testing.assert_array_equal(transform.to_env(np.array([[-1, 1], [-3, 3]])), [[-2, 10]] * 2)


def test_rescaling_without_bounds_uses_the_dataset(make_dataset):
    actions = np.array([[-3, 5], [1, 7], [0, 6]], np.float32)
    raw = make_dataset(actions=actions)
    transform = transforms.fit_action("rescale", raw)
    np.testing.assert_array_equal(transform.low, [-3, 5])
    np.testing.assert_array_equal(transform.high, [1, 7])
    partly = transforms.fit_action("rescale", raw, np.array([-np.inf, 0]), np.array([np.inf, 8]))
    np.testing.assert_array_equal(partly.low, [-3, 0])
    np.testing.assert_array_equal(partly.high, [1, 8])


def test_actions_out_of_bounds_are_named_with_the_fix(make_dataset):
    actions = np.zeros((12, 2), np.float32)
    actions[0] = 1 + 5e-6  # rounding, allowed
    actions[5, 1] = 1.75
    raw = make_dataset(actions=actions)
    with pytest.raises(
        InputError,
        match=r"test/small: 'actions' row 5, dimension 1 is 1.75, outside \[-1, 1\]; map them "
        r"onto it with --config.action_transform=rescale",
    ):
        transforms.fit_action("none", raw)
    with pytest.raises(
        InputError,
        match=r"'actions' row 5, dimension 1 is 1.75, outside \[-1.5, 1.5\]; clip them",
    ):
        transforms.fit_action("rescale", raw, np.full(2, -1.5), np.full(2, 1.5))
    transforms.fit_action("rescale", raw, np.full(2, -1.75), np.full(2, 1.75))


def test_actions_without_a_range_are_named(make_dataset):
    actions = make_dataset().actions.copy()
    actions[:, 1] = 0.5
    with pytest.raises(InputError, match="action dimension 1 has no range to rescale"):
        transforms.fit_action("rescale", make_dataset(actions=actions))


def test_bounds_of_another_environment_are_named(make_dataset):
    with pytest.raises(InputError, match=r"bound 'low' has shape \(3,\).*actions have 2 numbers"):
        transforms.fit_action("rescale", make_dataset(), -np.ones(3), np.ones(3))


@pytest.mark.parametrize(
    "fit, name, message",
    [
        (transforms.fit_reward, "minus_on", "unknown reward_transform 'minus_on'.*'minus_one'"),
        (
            transforms.fit_observation,
            "standardise",
            "unknown observation_transform 'standardise'.*did you mean 'standardize'",
        ),
        (transforms.fit_action, "scale", "unknown action_transform 'scale'.*'rescale'"),
        (transforms.fit_action, "", "unknown action_transform '': allowed are none, rescale, "),
    ],
)
def test_unknown_names_are_named(make_dataset, fit, name, message):
    with pytest.raises(InputError, match=message):
        fit(name, make_dataset())


def test_transforms_survive_json(make_dataset):
    raw = make_dataset(rows=50)
    reward = transforms.fit_reward("return_range_1000", raw)
    observation = transforms.fit_observation("standardize", raw)
    action = transforms.fit_action("rescale", raw)

    def through_json(transform):
        return type(transform).from_dict(json.loads(json.dumps(transform.to_dict())))

    assert through_json(reward) == reward
    np.testing.assert_array_equal(
        through_json(observation)(raw.observations), observation(raw.observations)
    )
    np.testing.assert_array_equal(
        through_json(action).to_unit(raw.actions), action.to_unit(raw.actions)
    )
    np.testing.assert_array_equal(
        through_json(action).to_env(raw.actions), action.to_env(raw.actions)
    )
    assert through_json(action).name == "rescale"


def test_apply_transforms_every_array_once(make_dataset):
    raw = make_dataset(rows=50)
    before = {f.name: np.copy(getattr(raw, f.name)) for f in dataclasses.fields(raw)[2:8]}
    reward = transforms.fit_reward("minus_one", raw)
    observation = transforms.fit_observation("standardize", raw)
    action = transforms.fit_action("rescale", raw)
    result = transforms.apply(raw, reward, observation, action)
    np.testing.assert_array_equal(result.rewards, raw.rewards - 1)
    np.testing.assert_array_equal(result.observations, observation(raw.observations))
    np.testing.assert_array_equal(result.next_observations, observation(raw.next_observations))
    np.testing.assert_array_equal(result.actions, action.to_unit(raw.actions))
    assert result.masks is raw.masks
    assert result.ends is raw.ends
    for field, array in before.items():
        np.testing.assert_array_equal(getattr(raw, field), array)
    raw_module.validate(result)


def test_apply_copies_nothing_that_stays(make_dataset):
    raw = make_dataset()
    result = transforms.apply(
        raw,
        transforms.fit_reward("none", raw),
        transforms.fit_observation("none", raw),
        transforms.fit_action("none", raw),
    )
    assert result.observations is raw.observations
    assert result.next_observations is raw.next_observations
    assert result.rewards is raw.rewards


def test_what_the_behaviour_achieved(make_dataset):
    sparse = make_dataset(rewards=np.float32([-1, -1, -1, -1, 0, 0, -1, -1, -1, -1, -1, -1]))
    assert transforms.behaviour_return(sparse) == -5.0
    assert transforms.behaviour_success(sparse) == 0.5
    assert transforms.behaviour_success(make_dataset()) is None
    told = make_dataset(extras={"behaviour_return": 7})
    assert transforms.behaviour_return(told) == 7.0
