import numpy as np
import pytest

from iql_jax.envs import auction_scores
from iql_jax.errors import InputError
from tests.data import auctions


@pytest.fixture
def name(tmp_path):
    arrays = auctions.period_arrays() | {"budget": np.array([1e4, 5e3])}
    np.savez(tmp_path / "a_period.npz", **arrays)
    return f"auctionnet/{tmp_path}"


def constant(factor):
    return lambda states: np.full(len(states), factor)


def test_each_advertiser_is_scored_over_its_own_draws(name):
    table = auction_scores.score_advertisers(constant(30.0), name, num_draws=40)
    assert [row.advertiser for row in table] == [0, 9]
    assert [row.cpa_limit for row in table] == [20.0, 40.0]
    for row in table:
        assert row.cost == pytest.approx(480.0)
        assert row.conversions == pytest.approx(24.0, abs=2.5)
        assert 0 < row.score_error < 1.5
    assert table[1].score == table[1].conversions  # 480 / 24 is below its limit
    assert table[0].score < table[0].conversions
    again = auction_scores.score_advertisers(constant(30.0), name, num_draws=40)
    assert again == table
    lines = auction_scores.to_text({"policy": table, "again": again}).splitlines()
    assert len(lines) == 5 and lines[0].split()[-2:] == ["policy", "again"]
    means = lines[3].split()
    assert means[:2] == ["mean", "score"] and means[2] == means[3]
    assert float(lines[4].split()[2]) == pytest.approx(sum(row.score for row in table), abs=0.1)


def test_the_policy_sees_the_states_of_those_still_bidding(name):
    calls = []

    def act(states):
        calls.append(states.shape)
        return np.full(len(states), 1.0)

    auction_scores.score_advertisers(act, name, num_draws=3)
    assert calls == [(6, 16)] * 48


def test_plans_are_replayed_tick_by_tick(name):
    half = np.r_[np.full(24, 30.0), np.zeros(24)]  # bids in the first half alone
    plans = {0: np.stack([half, half[::-1]]), 9: np.full((40, 48), 30.0), 7: np.zeros((1, 48))}
    table = auction_scores.score_schedules(plans, name)
    assert table[0].cost == pytest.approx(240.0)
    assert table[1].cost == pytest.approx(480.0)
    with pytest.raises(InputError, match="no bids of advertiser 9"):
        auction_scores.score_schedules({0: plans[0]}, name)
