"""The controllers go where they are told, and an ant that is stuck does not stay so."""

import math

import numpy as np
import pytest

from iql_jax.envs import antmaze, controllers, mazes

UMAZE = mazes.d4rl_maze("umaze")
TARGET = (0.6, 8.7)


@pytest.fixture
def headings(monkeypatch):
    """Ants whose action is the heading itself."""
    monkeypatch.setattr(controllers, "ant_controller", lambda: lambda observation, heading: heading)


def walker():
    return controllers.AntWalker(UMAZE, TARGET, np.random.default_rng(0))


def at(x, y):
    return np.array([x, y, *np.zeros(27)])


def angle(heading):
    assert np.linalg.norm(heading) == pytest.approx(1.0)
    return math.atan2(heading[1], heading[0])


def test_the_ant_heads_for_the_next_cell_and_in_the_last_leg_for_the_target(headings):
    ant = walker()
    assert 0.0 <= angle(ant(at(0.0, 0.0))) <= math.atan2(0.5, 4.0)
    assert -0.3 < angle(ant(at(3.0, 0.3))) < 0.3  # not past the waypoint in (1, 2) yet
    assert -0.2 < angle(ant(at(4.6, 0.3))) < 0.2  # past it: on to (1, 3)
    assert abs(angle(ant(at(8.6, 0.2))) - math.pi / 2) < 0.2
    # Pushed into a cell off its leg, it takes the way from there.
    expected = math.atan2(TARGET[1] - 8.0, TARGET[0] - 4.0)
    assert angle(ant(at(4.0, 8.0))) == pytest.approx(expected)
    expected = math.atan2(TARGET[1] - 8.0, TARGET[0] - 1.0)
    assert angle(ant(at(1.0, 8.0))) == pytest.approx(expected)


def test_a_stuck_ant_is_sent_off_for_a_moment(headings):
    ant = walker()
    angles = np.array([angle(ant(at(0.1, 0.1))) for _ in range(90)])
    usual = angles[0]
    astray = np.flatnonzero(angles != usual)
    np.testing.assert_array_equal(astray, np.arange(astray[0], astray[0] + 20))
    assert 55 <= astray[0] <= 65
    assert len(set(angles[astray])) == 1


def test_an_ant_about_its_target_is_not_stuck(headings):
    ant = walker()
    assert len({angle(ant(at(TARGET[0], TARGET[1] - 0.4))) for _ in range(200)}) == 1


def test_the_gait_walks_along_its_heading():
    env = antmaze.make_antmaze("antmaze-umaze-v2")
    observation = env.place(env.model.qpos0, np.zeros(env.model.nv))
    for _ in range(40):
        action = controllers.ant_controller()(observation, np.array([1.0, 0.0]))
        assert action.shape == (8,) and np.abs(action).max() <= 1.0
        observation = env.simulate(action)
    assert observation[0] > 4.0 and abs(observation[1]) < 1.0  # metres in 4 s


def test_the_ant_reaches_the_goal_of_the_umaze():
    env = antmaze.make_antmaze("antmaze-umaze-v2")
    rng = np.random.default_rng(0)
    observation, _ = env.reset(seed=0)
    ant = controllers.AntWalker(env.maze, tuple(env.goal.tolist()), rng)
    success = ended = False
    while not ended:
        action = np.clip(ant(observation) + 0.2 * rng.standard_normal(8), -1, 1)
        observation, _, success, truncated, _ = env.step(action)
        ended = success or truncated
    assert success


def test_the_ball_is_pushed_in_proportion_and_damped():
    maze = mazes.pointmaze_maze("medium")
    goal = maze.center((1, 1))
    near = np.array([goal[0] - 0.05, goal[1] + 0.02, 0.1, -0.3])
    np.testing.assert_allclose(controllers.point_action(maze, near, goal), [0.4, 0.1])
    far = np.array([*maze.center((1, 2)), 0.0, 0.0])  # a whole cell: as hard as it goes
    np.testing.assert_allclose(controllers.point_action(maze, far, goal), [-1.0, 0.0])
