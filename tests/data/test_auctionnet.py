import gzip

import numpy as np
import pytest

from iql_jax import data
from iql_jax.data import auctionnet, transforms
from iql_jax.errors import InputError
from tests.data import auctions


@pytest.fixture
def folder(tmp_path):
    auctions.write_csv(tmp_path / "training_data_all-rlData.csv")
    return tmp_path


def test_rows_become_transitions_up_to_the_end_of_the_budget(folder):
    raw = data.load(f"auctionnet/{folder}/training_data_all-rlData.csv")
    assert len(raw.rewards) == 2 * (6 + 4)  # the second advertiser's last two rows are left out
    assert raw.extras["rows_after_the_end"] == 4
    rows = auctions.training_rows()
    states = np.array([eval(row[8]) for row in rows], np.float32)
    np.testing.assert_array_equal(raw.observations[:10], states[[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]])
    np.testing.assert_array_equal(raw.next_observations[:5], states[1:6])
    np.testing.assert_array_equal(raw.next_observations[5], 0)
    np.testing.assert_array_equal(np.flatnonzero(raw.masks == 0), [5, 9, 15, 19])
    np.testing.assert_array_equal(np.flatnonzero(raw.ends), [5, 9, 15, 19])
    np.testing.assert_allclose(raw.actions[:6, 0], 40.0 + np.arange(6))
    np.testing.assert_allclose(raw.rewards[:6], np.arange(6) / 8)
    assert raw.env_name is None
    assert transforms.behaviour_return(raw) == 3.0  # its score, not the sum of its rewards


def test_options_choose_the_reward_and_the_unit_of_actions(folder):
    raw = data.load(f"auctionnet/{folder}@sparse@relative")
    np.testing.assert_allclose(raw.rewards[:6], np.arange(6) % 2)
    np.testing.assert_allclose(raw.actions[:10, 0] * np.repeat([100, 50], [6, 4]), [
        *(40.0 + np.arange(6)), *(40.0 + np.arange(4)),
    ], rtol=1e-6)  # fmt: skip
    assert "conversions, bid factors relative" in raw.source


def test_logged_bids_are_known_by_advertiser_and_period(folder):
    factors = auctionnet.logged_factors(f"auctionnet/{folder}@relative")
    assert {advertiser: plan.shape for advertiser, plan in factors.items()} == {
        0: (2, 48), 1: (2, 48)
    }  # fmt: skip
    np.testing.assert_allclose(factors[1][1], np.r_[np.arange(40, 46), np.zeros(42)] / 50)


def test_a_folder_with_a_period_is_evaluated_in_it(folder):
    np.savez(folder / "held_out_period.npz", **auctions.period_arrays())
    raw = data.load(f"auctionnet/{folder}@relative")
    assert raw.env_name == f"auctionnet/{folder}@relative"


def test_compressed_files_read_alike(folder):
    path = auctions.write_csv(folder / "more.csv.gz", opener=gzip.open)
    plain = data.load(f"auctionnet/{folder}/training_data_all-rlData.csv")
    packed = data.load(f"auctionnet/{path}")
    np.testing.assert_array_equal(plain.observations, packed.observations)
    assert path.name in packed.source


def test_the_real_file_is_that_of_the_flat_transitions(shared):
    import h5py

    raw = data.load(f"auctionnet/{shared}/data/auctionnet")
    assert transforms.behaviour_return(raw) == pytest.approx(16.788, abs=1e-3)
    with h5py.File(shared / "data" / "auctionnet" / "auctionnet_rl.hdf5") as file:
        np.testing.assert_allclose(raw.observations, file["observations"], rtol=1e-6)
        np.testing.assert_allclose(raw.actions, file["actions"], rtol=1e-6)
        np.testing.assert_allclose(raw.rewards, file["rewards"], rtol=1e-6, atol=1e-8)
        np.testing.assert_array_equal(raw.masks == 0, file["terminals"])
        np.testing.assert_allclose(raw.next_observations, file["next_observations"], rtol=1e-6)
    assert raw.ends.sum() == 20 * 48
    assert raw.env_name == raw.name


def test_volumes_are_scaled_as_auctionnet_does(folder):
    raw = data.load(f"auctionnet/{folder}")
    transform = transforms.fit_observation("auctionnet", raw)
    scaled = transform(raw.observations)
    np.testing.assert_array_equal(scaled[:, :13], raw.observations[:, :13])
    low, high = raw.observations[:, 13:].min(axis=0), raw.observations[:, 13:].max(axis=0)
    np.testing.assert_allclose(
        scaled[:, 13:], (raw.observations[:, 13:] - low) / (high - low + 0.01), rtol=1e-6
    )
    again = transforms.ObservationTransform.from_dict(transform.to_dict())
    np.testing.assert_array_equal(again(raw.observations), scaled)


def test_actions_beyond_the_quantiles_are_clipped(folder):
    raw = data.load(f"auctionnet/{folder}")
    raw.actions[0] = 1e5
    low, high = np.zeros(1, np.float32), np.full(1, np.inf, np.float32)
    transform = transforms.fit_action("rescale_quantile", raw, low, high)
    assert transform.low == 0.0
    assert transform.high == pytest.approx(np.quantile(raw.actions, 0.99), rel=1e-6)
    assert transform.to_unit(raw.actions).max() == np.float32(1 - 1e-5)
    np.testing.assert_allclose(
        transform.to_env(transform.to_unit(raw.actions[1:])), raw.actions[1:], rtol=1e-2
    )


def test_rewards_are_scaled_to_the_unit_range(folder):
    raw = data.load(f"auctionnet/{folder}")
    scaled = transforms.fit_reward("unit_range", raw)(raw.rewards)
    assert scaled.min() == 0.0
    assert scaled.max() == pytest.approx(1.0)
    raw.rewards[:] = 3.0
    with pytest.raises(InputError, match="which are all 3"):
        transforms.fit_reward("unit_range", raw)


def test_other_observations_are_none_of_auctionnets(tmp_path, make_arrays, write_file):
    raw = data.load(f"file/{write_file(tmp_path / 'mine.npz', make_arrays())}")
    with pytest.raises(InputError, match="states of 16 numbers, these have"):
        transforms.fit_observation("auctionnet", raw)


def broken(folder, change):
    rows = auctions.training_rows()
    change(rows)
    return auctions.write_csv(folder / "broken.csv", rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[2].__setitem__(9, "much"), "line 4: could not convert string to float"),
        (lambda rows: rows[2].__setitem__(8, "(1, 2)"), "line 4: a state has 2 numbers, but must"),
        (lambda rows: rows[2].__setitem__(13, "(1, x)"), "line 4: could not convert string"),
        (lambda rows: rows[2].__setitem__(7, 1), "line 4: 'timeStepIndex' does not rise"),
        (lambda rows: rows[2].__setitem__(9, "nan"), "'actions' row 2, dimension 0, is nan"),
        (lambda rows: rows.clear(), "has no rows"),
    ],
)
def test_a_broken_row_is_named(folder, change, message):
    with pytest.raises(InputError, match=message):
        data.load(f"auctionnet/{broken(folder, change)}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("auctionnet/{folder}@sparce", "unknown option '@sparce'; did you mean 'sparse'"),
        ("auctionnet/", "names no file"),
        ("auctionnet/{folder}/missing.csv", "no such file or folder"),
        ("auctionnet/{folder}/other.txt", "ends in .csv or .csv.gz"),
        ("auctionnet/{folder}/empty", "one CSV of training data.*found none"),
        ("auctionnet/{folder}/cut.csv.gz", "cannot be read"),
        ("auctionnet/{folder}/short.csv", "missing the columns done, next_state"),
    ],
)
def test_bad_names_and_files_are_refused(folder, name, message):
    (folder / "other.txt").write_text("x")
    (folder / "empty").mkdir()
    whole = gzip.compress((folder / "training_data_all-rlData.csv").read_bytes())
    (folder / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    auctions.write_csv(folder / "short.csv", [], auctions.COLUMNS[:-2])
    with pytest.raises(InputError, match=message):
        data.load(name.format(folder=folder))
