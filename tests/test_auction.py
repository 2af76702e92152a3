"""A run on AuctionNet's data as bids, and scored beside the log and constant bids."""

import json
import shutil

import numpy as np
import pytest

import iql_jax
from iql_jax import auction
from iql_jax.config import RunConfig
from iql_jax.envs.auctionnet import make_auction
from iql_jax.errors import InputError
from iql_jax.training.members import Member
from iql_jax.training.offline import train_offline
from iql_jax.training.run_directory import RunOptions
from tests.data import auctions


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Bids of 40 % or so of the limits 100 and 50 in the log, a held-out period with 20 and 40."""
    path = tmp_path_factory.mktemp("auctions")
    auctions.write_csv(path / "training_data_all-rlData.csv")
    arrays = auctions.period_arrays() | {"advertisers": np.array([0, 1])}
    np.savez(path / "held_out_period.npz", **arrays)
    return path


@pytest.fixture(scope="module")
def run_dir(folder, tmp_path_factory):
    config = RunConfig(
        env_name=f"auctionnet/{folder}@relative",
        reward_transform="unit_range",
        observation_transform="auctionnet",
        action_transform="rescale",
        hidden_dims=(8, 8),
        batch_size=8,
        max_steps=20,
        eval_interval=20,
        eval_episodes=2,
    )
    path = tmp_path_factory.mktemp("run") / "run"
    assert train_offline(config, [Member(7, {})], RunOptions(str(path))) == 0
    return path


def test_ways_to_bid_stand_side_by_side(run_dir, capsys):
    tables = auction.compare(run_dir, num_draws=3)
    assert list(tables) == ["iql, seed 7", "logged bids", "1 x CPA limit", "0.8 x CPA limit"]
    for table in tables.values():
        assert [row.advertiser for row in table] == [0, 1]
        assert [row.cpa_limit for row in table] == [20.0, 40.0]
    # A constant bid wins every impression at 2 where limit x 0.1 >= 2: both at 1, one at 0.8.
    assert [row.cost for row in tables["1 x CPA limit"]] == [pytest.approx(480.0)] * 2
    assert [row.cost for row in tables["0.8 x CPA limit"]] == [0.0, pytest.approx(480.0)]
    # The log has factors 0.4 and more of the limit for six ticks: 8 of 20, and 0.8 to 0.9 of 40.
    assert [row.cost for row in tables["logged bids"]] == [0.0, pytest.approx(60.0)]
    assert auction.main([str(run_dir), "--draws=3", "--member=0"]) == 0
    assert "total score" in capsys.readouterr().out


def test_bids_are_the_policys_factor_for_every_impression(run_dir, folder):
    env = make_auction(f"auctionnet/{folder}@relative")
    policy = iql_jax.load_policy(run_dir)
    state, _ = env.reset(seed=0, options={"advertiser": 1})
    bidder = auction.Bidder(run_dir, env.budget, env.cpa_limit)
    past = [[] for _ in range(5)]
    for tick in range(4):
        values, sigmas, costs = env.period.tick(1, tick)
        factor = policy.act(state)
        bids = bidder.bidding(tick, values, sigmas, *past)
        np.testing.assert_allclose(bids, factor[0] * env.cpa_limit * values, rtol=1e-5)
        before = env._account.conversions
        state, *_, info = env.step(factor)
        won = np.array(bids >= costs, float)
        converted = np.zeros(len(bids))
        converted[: info["conversions"] - before] = 1.0
        seen = (
            np.c_[values, sigmas],
            bids,
            np.c_[won, won, costs * won],
            np.c_[won, converted],
            costs,
        )
        for history, array in zip(past, seen, strict=True):
            history.append(array)
        bidder.remaining_budget = env.budget - info["cost"]
    bidder.reset()
    assert bidder.remaining_budget == env.budget


def test_what_cannot_bid_is_told(run_dir, pendulum_run, tmp_path, capsys):
    assert auction.main([str(pendulum_run)]) == 2
    assert "bids are for auctionnet/... data" in capsys.readouterr().err
    assert auction.main([str(run_dir), "--draws=0"]) == 2
    assert "draws is 0" in capsys.readouterr().err
    with pytest.raises(InputError, match="no such file or folder"):
        auction.compare(run_dir, period=tmp_path / "nothing.npz")
    moved = shutil.copytree(run_dir, tmp_path / "moved")
    config = json.loads((moved / "config.json").read_text())
    config["config"]["env_name"] = "auctionnet/nowhere@relative"
    (moved / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        auction.compare(moved)
