"""The recipes of docs/own_data.md work as they stand there."""

import re

import gymnasium
import numpy as np
import pytest

from iql_jax import data
from iql_jax.data.recording import Recorder


@pytest.fixture
def recipes(repository, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (repository / "docs" / "own_data.md").read_text()
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


def test_arrays(recipes):
    rng = np.random.default_rng(0)
    logs = rng.normal(size=(6, 3)), rng.uniform(-1, 1, (6, 2)), rng.normal(size=6)
    ends = np.array([0, 0, 1, 0, 0, 0], bool), np.array([0, 0, 0, 0, 0, 1], bool)
    exec(recipes[0], {"load_my_logs": lambda: logs, "where_episodes_end": lambda: ends})
    raw = data.load("file/mine.npz")
    assert len(raw.rewards) == 5
    np.testing.assert_array_equal(raw.masks, [1, 1, 0, 1, 1])


def test_a_loop(recipes):
    def make(name):
        return gymnasium.make(name, max_episode_steps=4)

    pendulum = type("gymnasium", (), {"make": staticmethod(make)})
    recipe = recipes[1].replace("range(100)", "range(2)")
    exec(recipe, {"gymnasium": pendulum, "Recorder": Recorder, "act": lambda seen: seen[:1]})
    raw = data.load("file/mine.npz")
    assert len(raw.rewards) == 8 and raw.ends.sum() == 2
