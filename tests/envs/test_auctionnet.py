"""A replayed period pays, charges and scores as AuctionNet's offline evaluation does."""

import pickle

import numpy as np
import pytest

from iql_jax import envs
from iql_jax.envs import auctionnet
from iql_jax.envs.auction_period import load_period
from iql_jax.envs.lockstep import Lockstep
from iql_jax.errors import InputError
from tests.data import auctions


def make(tmp_path, suffix="", **arrays):
    np.savez(tmp_path / "a_period.npz", **(auctions.period_arrays() | arrays))
    return envs.make(f"auctionnet/{tmp_path}/a_period.npz{suffix}")


def play(env, factor, advertiser=0, seed=0):
    observation, _ = env.reset(seed=seed, options={"advertiser": advertiser})
    observations, rewards, ended = [observation], [], False
    while not ended:
        observation, reward, ended, truncated, info = env.step(np.array([factor]))
        assert not truncated
        observations.append(observation)
        rewards.append(reward)
    return np.array(observations), np.array(rewards), info


def test_a_bid_below_the_cost_wins_nothing(tmp_path):
    observations, rewards, info = play(make(tmp_path), 19.9)
    assert len(rewards) == 48
    assert not rewards.any()
    assert info == {"advertiser": 0, "conversions": 0, "cost": 0.0, "score": 0.0}
    np.testing.assert_array_equal(observations[:, 1], 1.0)
    np.testing.assert_allclose(observations[1:, 2], 1.99)  # but the bids are remembered


def test_a_bid_at_the_cost_wins_and_pays_the_cost(tmp_path):
    env = make(tmp_path, budget=np.full(2, 1e4))
    for factor in (20.01, 500.0):
        _, rewards, info = play(env, factor)
        assert info["cost"] == pytest.approx(2.0 * 48 * 5)
        assert rewards.sum() == pytest.approx(info["score"])


def test_conversions_have_the_predicted_chance(tmp_path):
    env = make(tmp_path, budget=np.full(2, 1e4))
    counts = [play(env, 30.0, seed=seed)[2]["conversions"] for seed in range(60)]
    assert np.mean(counts) == pytest.approx(0.1 * 240, abs=3 * np.sqrt(240 * 0.09 / 60))


@pytest.mark.parametrize(
    ("conversions", "cost", "limit", "expected"),
    [
        (10, 100.0, 20.0, 10.0),
        (10, 200.0, 20.0, 10.0),
        (10, 400.0, 20.0, 2.5),
        (0, 50.0, 20.0, 0.0),
    ],
)
def test_the_score_punishes_too_dear_conversions(conversions, cost, limit, expected):
    assert auctionnet.score(conversions, cost, limit) == pytest.approx(expected)


def test_a_tick_never_costs_more_than_is_left(tmp_path):
    observations, rewards, info = play(make(tmp_path, budget=np.full(2, 7.0)), 50.0)
    # 10 of 10 in the first tick are too many for 7: three impressions at 2, then too little is left
    # to win with, although there is more than 0.1, so that bidding goes on.
    assert info["cost"] == 6.0
    assert len(rewards) == 48
    np.testing.assert_allclose(observations[1, 1], 1 / 7)
    np.testing.assert_allclose(observations[1, 7], 3 / 5)  # share won
    np.testing.assert_allclose(observations[1, 2], 5.0 * 3 / 5)  # bids taken back count as zero


def test_the_episode_ends_where_the_budget_does(tmp_path):
    _, rewards, info = play(make(tmp_path, budget=np.full(2, 20.05)), 50.0)
    assert len(rewards) == 2
    assert info["cost"] == 20.0


def test_states_are_means_of_ticks(tmp_path):
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 9, 48)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    total = offsets[-1]
    values = rng.uniform(0.01, 0.2, (total, 1)).astype(np.float32)
    costs = rng.uniform(0.5, 3.0, total).astype(np.float32)
    env = make(
        tmp_path,
        advertisers=np.array([3]),
        budget=np.array([1e5]),
        CPAConstraint=np.array([60.0]),
        pValue=values,
        pValueSigma=np.zeros((total, 1), np.float32),
        leastWinningCost=costs,
        tick_offsets=offsets,
    )
    observations, _, _ = play(env, 20.0, advertiser=3)
    ticks = [slice(offsets[t], offsets[t + 1]) for t in range(48)]
    won = [20.0 * values[rows, 0] >= costs[rows] for rows in ticks]
    for t in (1, 2, 3, 10, 47):
        before, lately = ticks[:t], ticks[max(0, t - 3) : t]
        state = dict(zip(auctionnet.STATE, observations[t], strict=True))
        assert state["time left"] == (48 - t) / 48
        spent = sum(costs[rows][one].sum() for rows, one in zip(before, won, strict=False))
        assert state["budget left"] == pytest.approx(1 - spent / 1e5)
        for span, ending in ((before, ""), (lately, ", last three ticks")):
            expected = np.mean([20.0 * values[rows].mean() for rows in span])
            assert state["mean bid" + ending] == pytest.approx(expected)
            expected = np.mean([costs[rows].mean() for rows in span])
            assert state["mean least winning cost" + ending] == pytest.approx(expected)
            expected = np.mean([values[rows].mean() for rows in span])
            assert state["mean predicted value" + ending] == pytest.approx(expected)
        expected = np.mean([one.mean() for one in won[:t]])
        assert state["share won"] == pytest.approx(expected)
        expected = np.mean([one.mean() for one in won[max(0, t - 3) : t]])
        assert state["share won, last three ticks"] == pytest.approx(expected)
        assert state["mean predicted value of this tick"] == pytest.approx(values[ticks[t]].mean())
        assert state["impressions of this tick"] == lengths[t]
        assert state["impressions of the last three ticks"] == lengths[max(0, t - 3) : t].sum()
        assert state["impressions so far"] == offsets[t]
    np.testing.assert_array_equal(observations[0, 2:12], 0)


def test_relative_actions_are_in_units_of_the_cpa_limit(tmp_path):
    env = make(tmp_path, "@relative", budget=np.full(2, 1e4))
    for advertiser, enough in ((0, 1.01), (9, 0.501)):  # limits 20 and 40, and 20 wins
        assert play(env, enough - 0.02, advertiser)[2]["cost"] == 0.0
        assert play(env, enough, advertiser)[2]["cost"] == 480.0


def test_negative_factors_bid_nothing(tmp_path):
    assert play(make(tmp_path), -3.0)[2]["cost"] == 0.0


def test_every_advertiser_is_drawn(tmp_path):
    env = make(tmp_path)
    seen = [env.reset(seed=seed)[1]["advertiser"] for seed in range(40)]
    assert set(seen) == {0, 9}
    assert seen == [env.reset(seed=seed)[1]["advertiser"] for seed in range(40)]


def test_a_pickled_state_continues_bit_for_bit(tmp_path):
    env = make(tmp_path, pValueSigma=np.full((240, 2), 0.05, np.float32))
    other = envs.make(f"auctionnet/{tmp_path}/a_period.npz")
    assert other.period is env.period  # read once
    env.reset(seed=3)
    for _ in range(10):
        env.step([25.0])
    state = pickle.loads(pickle.dumps(env.get_state()))
    expected = [env.step([25.0])[:2] for _ in range(10)]
    other.reset(seed=4)
    for continued in (env, other):
        continued.set_state(state)
        for wanted in expected:
            observation, reward, *_ = continued.step([25.0])
            np.testing.assert_array_equal(observation, wanted[0])
            assert reward == wanted[1]


def test_it_steps_in_lockstep(tmp_path):
    make(tmp_path)
    lockstep = Lockstep(lambda: envs.make(f"auctionnet/{tmp_path}"), 4)
    assert lockstep.max_episode_steps == 48
    first = lockstep.reset([0, 1, 2, 3])
    assert first.shape == (4, 16)
    result = lockstep.step(np.full((4, 1), 30.0, np.float32))
    assert (result.rewards >= 0).all()
    lockstep.close()


def test_the_real_period_scores_a_constant_factor_as_known(shared):
    """Known of all 48 advertisers: 30.3 at the CPA limit. Six of them are in the file."""
    env = envs.make(f"auctionnet/{shared}/data/auctionnet@relative")
    scores = [
        play(env, 1.0, advertiser, seed)[1].sum()
        for advertiser in env.period.advertisers
        for seed in range(4)
    ]
    assert np.mean(scores) == pytest.approx(31.0, abs=2.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget": np.ones(3)}, r"'budget' has shape \(3,\), but must be \(2,\)"),
        ({"pValue": np.ones((7, 2))}, r"'pValue' has shape \(7, 2\), but must be \(240, 2\)"),
        ({"tick_offsets": np.arange(49)}, "'tick_offsets' must rise from 0 to 240"),
        ({"budget": np.array([0.0, 1.0])}, "must be positive"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        make(tmp_path, **change)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.npz", "no such file or folder"),
        ("", "one period to replay.*found none"),
        ("part_period.npz", "lacks budget, CPAConstraint"),
        ("text_period.hdf5", "cannot be read as a period"),
    ],
)
def test_files_that_hold_no_period_are_refused(tmp_path, name, message):
    if name == "part_period.npz":
        np.savez(tmp_path / name, advertisers=np.arange(2))
    if name == "text_period.hdf5":
        (tmp_path / name).write_text("no HDF5")
    with pytest.raises(InputError, match=message):
        envs.make(f"auctionnet/{tmp_path}/{name}")
    assert envs.exists(f"auctionnet/{tmp_path}/{name}") == (tmp_path / name).is_file()


def test_an_advertiser_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"advertiser 5 is not in .* which has 0, 9"):
        make(tmp_path).reset(options={"advertiser": 5})


def test_there_are_no_pictures(tmp_path):
    make(tmp_path)
    with pytest.raises(InputError, match="has no pictures"):
        envs.make(f"auctionnet/{tmp_path}", render_mode="rgb_array")


def test_a_changed_file_is_read_again(tmp_path):
    path = tmp_path / "a_period.npz"
    np.savez(path, **auctions.period_arrays())
    first = load_period(path)
    np.savez(path, **(auctions.period_arrays() | {"budget": np.full(2, 5.0)}))
    assert first.budget[0] == 1000.0 and load_period(path).budget[0] == 5.0
