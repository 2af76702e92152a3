"""The controllers that walk the mazes to make data: waypoints followed by a body's own reflexes."""

import functools
import importlib.resources

import numpy as np

from iql_jax.envs.mazes import Maze, waypoint

_GAIN, _DAMPING = 10.0, 1.0  # of the ball's controller
_ANT_LOOKAHEAD = 0.6  # of a cell; with 1 the ant cuts inner corners and gets stuck more often


class AntController:
    """A walking gait for D4RL's ant: towards a heading, at about 1.6 m/s.

    A 29-128-128-8 ReLU network with a tanh output, distilled for this project by DAgger (280k
    states, headings changed at random, action noise up to 0.2) from the controller published with
    D4RL's AntMaze generation (Apache-2.0). Falls over at times, and does not get up again.
    """

    def __init__(self) -> None:
        file = importlib.resources.files("iql_jax.envs").joinpath("ant_controller.npz")
        with file.open("rb") as stream, np.load(stream) as arrays:
            self._layers = [(arrays[f"kernel{i}"], arrays[f"bias{i}"]) for i in range(3)]

    def __call__(self, observation: np.ndarray, heading: np.ndarray) -> np.ndarray:
        """f32[8] in [-1, 1], from f64[29] (qpos, qvel) and a unit vector f64[2] in the world."""
        hidden = np.concatenate((observation[2:], heading)).astype(np.float32)
        *body, (kernel, bias) = self._layers
        for body_kernel, body_bias in body:
            hidden = np.maximum(hidden @ body_kernel + body_bias, 0.0)
        return np.tanh(hidden @ kernel + bias)


@functools.cache
def ant_controller() -> AntController:
    """The shipped controller, read once."""
    return AntController()


def ant_action(maze: Maze, observation: np.ndarray, goal_xy: tuple[float, float]) -> np.ndarray:
    """f32[8] in [-1, 1], a step of the ant on a shortest way to the goal."""
    x, y = float(observation[0]), float(observation[1])
    target_x, target_y = waypoint(maze, x, y, goal_xy, _ANT_LOOKAHEAD)
    heading = np.array((target_x - x, target_y - y))
    heading /= max(float(np.hypot(*heading)), 1e-9)
    return ant_controller()(observation, heading)


def point_action(maze: Maze, observation: np.ndarray, goal_xy: tuple[float, float]) -> np.ndarray:
    """f64[2] in [-1, 1], a push of the ball on a shortest way to the goal, proportional-damped."""
    x, y, vx, vy = observation.tolist()
    target_x, target_y = waypoint(maze, x, y, goal_xy)
    push_x = _GAIN * (target_x - x) - _DAMPING * vx
    push_y = _GAIN * (target_y - y) - _DAMPING * vy
    return np.array((min(max(push_x, -1.0), 1.0), min(max(push_y, -1.0), 1.0)))
