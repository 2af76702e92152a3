"""Dense rewards become -1 until success, by rules that are written down."""

import numpy as np
import pytest

from iql_jax import data
from iql_jax.data import adroit_binary, d4rl
from iql_jax.data.raw import RawDataset
from iql_jax.data.transforms import behaviour_success
from iql_jax.errors import InputError


def pens() -> RawDataset:
    """Four episodes: done in its third row of five; never; dropped; done at once, twice."""
    rewards = np.float32([1, 11, 61, 9, 62, 0.5, 1, 2, 1, -4, 60, 61])
    ends = np.isin(np.arange(12), [4, 7, 9, 11])
    rows = np.arange(12, dtype=np.float32)[:, None]
    masks = np.where(np.arange(12) == 9, 0, 1).astype(np.float32)
    return RawDataset("d4rl/pen", "D4RL", rows, rows / 12, rewards, masks, rows + 1, ends, "pen")


def test_rows_after_success_and_of_a_dropped_pen_are_left_out():
    found = adroit_binary.relabel(pens(), "binary/pen-human-v1", 30.0)
    np.testing.assert_array_equal(found.observations[:, 0], [0, 1, 2, 5, 6, 7, 8, 10])
    np.testing.assert_array_equal(found.rewards, [-1, -1, 0, -1, -1, -1, -1, 0])
    np.testing.assert_array_equal(found.masks, [1, 1, 0, 1, 1, 1, 1, 0])
    np.testing.assert_array_equal(np.flatnonzero(found.ends), [2, 5, 6, 7])
    np.testing.assert_array_equal(found.next_observations, found.observations + 1)
    assert behaviour_success(found) == 0.5
    assert found.env_name == found.name == "binary/pen-human-v1"
    assert found.source == ("D4RL; rewards made -1 until success, 0 and the end there, by iql_jax")


def test_nothing_left_is_told():
    one = pens()
    fallen = RawDataset(
        "d4rl/pen", "", *(getattr(one, n)[9:10] for n in ("observations", "actions")),
        one.rewards[9:10], one.masks[9:10], one.next_observations[9:10], one.ends[9:10],
    )  # fmt: skip
    with pytest.raises(InputError, match="no transition left for 'binary/pen-human-v1'"):
        adroit_binary.relabel(fallen, "binary/pen-human-v1", 30.0)


def test_it_is_loaded_by_its_name(monkeypatch):
    asked = []
    monkeypatch.setattr(d4rl, "load_d4rl", lambda name, folder: asked.append(name) or pens())
    assert len(data.load("binary/pen-cloned-v1").rewards) == 8
    assert asked == ["pen-cloned-v1"] and "binary/door-human-v1" in data.known_names()
    with pytest.raises(InputError, match=r"unknown dataset 'binary/pen-v1'; did you mean"):
        data.load("binary/pen-v1")


def test_the_demonstrations_of_the_door(shared):
    raw = d4rl.read_dataset(
        shared / "data" / "door_human.hdf5",
        name="d4rl/door-human-v1",
        source="D4RL",
        env_name="door-human-v1",
        max_episode_steps=200,
    )
    threshold = adroit_binary._DONE_ABOVE["door"]
    between = raw.rewards[(raw.rewards > 11.0) & (raw.rewards < 19.0)]
    assert not between.size and (raw.rewards > threshold).sum() == 369
    found = adroit_binary.relabel(raw, "binary/door-human-v1", threshold)
    assert (len(found.rewards), found.ends.sum(), (found.rewards == 0).sum()) == (6273, 25, 7)
    assert (found.masks == -found.rewards).all()
