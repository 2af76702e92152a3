"""The controllers that walk the mazes to make data: waypoints followed by a body's own reflexes."""

import functools
import importlib.resources
import math

import numpy as np

from iql_jax.envs.mazes import Cell, Maze, next_cells, waypoint

_GAIN, _DAMPING = 10.0, 1.0  # of the ball's controller
# Of the ant's way, found by trying: more noise rubs along walls, less never sees the goals' place.
_WAYPOINT_NOISE = 0.5  # metres
_PASSED = 0.25  # metres before a waypoint
_STUCK_RADIUS, _STUCK_STEPS, _STRAY_STEPS = 0.5, 60, 20  # metres; environment steps


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


class AntWalker:
    """Walks an ant over waypoints on a shortest way to a point.

    A waypoint lies in each cell on the way, up to 0.5 m beyond the cell's centre along both axes,
    towards where D4RL's goals lie; the last is the point itself. The ant is on to the next when it
    has passed one, or has been pushed into a cell off its way. Against a wall or crouched at an
    odd angle the gait can come to rest; an ant that has got nowhere is sent off in a random
    direction for a moment.
    """

    def __init__(self, maze: Maze, target: tuple[float, float], rng: np.random.Generator):
        self._maze, self._target, self._rng = maze, target, rng
        self._goal = maze.cell_at(*target)
        self._leg: tuple[Cell, Cell] | None = None  # from this cell to that one
        self._waypoint = target
        self._resting_place, self._rested = target, 0  # where it was so many steps ago
        self._stray_steps, self._stray_angle = 0, 0.0

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """f32[8] in [-1, 1], for the observations f64[29] of consecutive steps."""
        x, y = float(observation[0]), float(observation[1])
        self._follow_way(x, y)
        angle = math.atan2(self._waypoint[1] - y, self._waypoint[0] - x)
        if self._strays(x, y):
            angle = self._stray_angle
        return ant_controller()(observation, np.array((math.cos(angle), math.sin(angle))))

    def _follow_way(self, x: float, y: float) -> None:
        cell = self._maze.cell_at(x, y)
        if self._leg is None or (cell not in self._leg and self._maze.is_free(cell)):
            self._begin_leg(cell)
        while self._leg is not None and self._has_passed(self._leg, x, y):
            self._begin_leg(self._leg[1])

    def _begin_leg(self, cell: Cell) -> None:
        end = next_cells(self._maze, self._goal)[cell]
        self._leg, self._waypoint = (cell, end), self._target
        if end != self._goal:
            x, y = self._maze.center(end)
            dx, dy = self._rng.uniform(0.0, _WAYPOINT_NOISE, 2)
            self._waypoint = x + dx, y + dy

    def _has_passed(self, leg: tuple[Cell, Cell], x: float, y: float) -> bool:
        """Whether the line through the waypoint across the leg is reached."""
        if leg[1] == self._goal:
            return False
        (from_x, from_y), (to_x, to_y) = map(self._maze.center, leg)
        ahead = (self._waypoint[0] - x) * (to_x - from_x) + (self._waypoint[1] - y) * (
            to_y - from_y
        )
        return ahead <= _PASSED * self._maze.cell_size

    def _strays(self, x: float, y: float) -> bool:
        """Whether this step goes in the random direction of an ant that has got stuck."""
        if self._stray_steps > 0:
            self._stray_steps -= 1
            return True
        if math.dist(self._resting_place, (x, y)) > _STUCK_RADIUS:
            self._resting_place, self._rested = (x, y), 0
            return False
        self._rested += 1
        if self._rested >= _STUCK_STEPS and math.dist(self._waypoint, (x, y)) > 2 * _STUCK_RADIUS:
            self._rested, self._stray_steps = 0, _STRAY_STEPS
            self._stray_angle = float(self._rng.uniform(-math.pi, math.pi))
        return False


def point_action(maze: Maze, observation: np.ndarray, goal_xy: tuple[float, float]) -> np.ndarray:
    """f64[2] in [-1, 1], a push of the ball on a shortest way to the goal, proportional-damped."""
    x, y, vx, vy = observation.tolist()
    target_x, target_y = waypoint(maze, x, y, goal_xy)
    push_x = _GAIN * (target_x - x) - _DAMPING * vx
    push_y = _GAIN * (target_y - y) - _DAMPING * vy
    return np.array((min(max(push_x, -1.0), 1.0), min(max(push_y, -1.0), 1.0)))
