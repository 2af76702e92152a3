"""PointMaze against gymnasium-robotics' own environment, and its task by itself."""

import warnings

import gymnasium
import numpy as np
import pytest

from iql_jax import envs
from iql_jax.envs import controllers, pointmaze
from iql_jax.errors import InputError

SIZES = {"umaze": "UMaze", "medium": "Medium", "large": "Large"}


@pytest.fixture(scope="module")
def theirs():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import gymnasium_robotics

        gymnasium.register_envs(gymnasium_robotics)
        return {
            size: gymnasium.make(f"PointMaze_{title}-v3").unwrapped for size, title in SIZES.items()
        }


@pytest.mark.parametrize("size", SIZES)
def test_it_moves_as_gymnasium_robotics_does(theirs, size):
    reference, env = theirs[size], pointmaze.make_pointmaze(f"generated/pointmaze-{size}-v0")
    rng = np.random.default_rng(0)
    hit_walls = too_fast = 0
    for episode in range(3):
        observation = reference.reset(seed=episode)[0]["observation"]
        env.place(observation[:2], observation[2:])
        for t in range(150):
            if t % 25 == 0:
                action = rng.uniform(-1.5, 1.5, 2)
            observation = reference.step(action)[0]["observation"]
            np.testing.assert_array_equal(env.simulate(action), observation)
            hit_walls += env.data.ncon > 1  # one contact is the floor's
            too_fast += np.abs(observation[2:]).max() > 5.0
    assert hit_walls > 50 and too_fast > 20  # both peculiarities of the physics were seen


@pytest.mark.parametrize("size", SIZES)
def test_the_task_is_from_one_corner_to_the_other(size):
    env = envs.make(f"generated/pointmaze-{size}-v0")
    assert env.observation_space.shape == (4,) and env.action_space.shape == (2,)
    observation, info = env.reset(seed=0)
    assert env.maze.cell_at(*observation[:2]) == (1, 1)
    assert np.abs(observation[:2] - env.maze.center((1, 1))).max() <= 0.1
    np.testing.assert_array_equal(observation[2:], 0)
    far = {"umaze": (3, 1), "medium": (6, 6), "large": (7, 10)}[size]
    np.testing.assert_array_equal(env.goal, env.maze.center(far))
    assert info == {"success": False}


@pytest.mark.parametrize("size", SIZES)
def test_the_controller_solves_it_within_the_limit(size):
    env = pointmaze.make_pointmaze(f"generated/pointmaze-{size}-v0")
    observation, _ = env.reset(seed=0)
    ended = False
    while not ended:
        action = controllers.point_action(env.maze, observation, tuple(env.goal))
        observation, reward, terminated, truncated, info = env.step(action)
        assert reward == float(terminated) == float(info["success"])
        ended = terminated or truncated
    assert info["success"] and not truncated
    assert np.linalg.norm(observation[:2] - env.goal) <= 0.5


def test_the_time_limit_truncates():
    env = pointmaze.make_pointmaze("generated/pointmaze-umaze-v0")
    env.reset(seed=0)
    truncated = [env.step(np.zeros(2))[3] for _ in range(300)]
    assert truncated == [False] * 299 + [True]


def test_a_restored_state_goes_on_bit_for_bit():
    env, other = (pointmaze.make_pointmaze("generated/pointmaze-medium-v0") for _ in range(2))
    env.reset(seed=3)
    for _ in range(40):
        env.step(np.array([1.0, -0.7]))
    other.reset(seed=4)
    other.set_state(env.get_state())
    for _ in range(40):
        first, second = env.step(np.array([0.3, 1.0])), other.step(np.array([0.3, 1.0]))
        np.testing.assert_array_equal(first[0], second[0])
        assert first[1:] == second[1:]
    np.testing.assert_array_equal(env.reset()[0], other.reset()[0])


def test_an_unknown_name_is_told_the_nearest():
    with pytest.raises(InputError, match="did you mean 'generated/pointmaze-medium-v0'"):
        pointmaze.make_pointmaze("generated/pointmaze-medum-v0")


def test_an_action_of_the_wrong_size_is_refused():
    env = pointmaze.make_pointmaze("generated/pointmaze-umaze-v0")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="shape"):
        env.step(np.zeros(3))
