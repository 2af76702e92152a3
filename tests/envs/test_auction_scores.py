import numpy as np
import pytest

from iql_jax.envs import auction_scores
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
    text = auction_scores.to_text(table)
    assert "mean score" in text and len(text.splitlines()) == 4


def test_the_policy_sees_the_states_of_those_still_bidding(name):
    calls = []

    def act(states):
        calls.append(states.shape)
        return np.full(len(states), 1.0)

    auction_scores.score_advertisers(act, name, num_draws=3)
    assert calls == [(6, 16)] * 48
