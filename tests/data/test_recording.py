"""What a loop records is what a loader reads."""

import gymnasium
import numpy as np
import pytest

from iql_jax import data
from iql_jax.data.recording import Recorder
from iql_jax.errors import InputError
from tests.data.reach import Reach


def play(env, num_episodes=2):
    env.action_space.seed(0)
    observations = []
    for seed in range(num_episodes):
        observation, _ = env.reset(seed=seed)
        ended = False
        while not ended:
            observations.append(observation)
            observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
            ended = terminated or truncated
    return observations


@pytest.mark.parametrize("suffix", [".npz", ".hdf5"])
def test_a_recorded_loop_reads_as_it_was(tmp_path, suffix):
    env = Recorder(gymnasium.make("Pendulum-v1", max_episode_steps=5))
    observations = play(env)
    assert env.num_steps == 10
    path = env.save(tmp_path / "new" / f"mine{suffix}")
    raw = data.load(f"file/{path}")
    np.testing.assert_array_equal(raw.observations, observations)
    np.testing.assert_array_equal(raw.next_observations[:4], observations[1:5])
    np.testing.assert_array_equal(np.flatnonzero(raw.ends), [4, 9])
    assert raw.masks.all()


def test_choices_and_dictionaries_become_rows(tmp_path):
    env = Recorder(gymnasium.make("CartPole-v1"))
    play(env, 1)
    raw = data.load(f"file/{env.save(tmp_path / 'cart.npz')}")
    assert raw.actions.shape[1] == 2 and (raw.actions.sum(axis=1) == 1).all()
    assert raw.masks[-1] == 0.0
    env = Recorder(Reach())
    play(env, 1)
    raw = data.load(f"file/{env.save(tmp_path / 'reach.npz')}")
    assert raw.observations.shape == (3, 6)


def test_an_episode_left_early_is_a_fragment(tmp_path):
    env = Recorder(gymnasium.make("Pendulum-v1"))
    for _ in range(2):
        env.reset(seed=0)
        for _ in range(3):
            env.step(np.zeros(1, np.float32))
    raw = data.load(f"file/{env.save(tmp_path / 'mine.npz')}")
    np.testing.assert_array_equal(np.flatnonzero(raw.ends), [2, 5])


def test_nothing_recorded_and_other_endings_are_refused(tmp_path):
    env = Recorder(gymnasium.make("Pendulum-v1"))
    with pytest.raises(InputError, match="nothing to save yet"):
        env.save(tmp_path / "mine.npz")
    with pytest.raises(InputError, match=r"ends in \.npz or \.hdf5"):
        env.save(tmp_path / "mine.csv")
