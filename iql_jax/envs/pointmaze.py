"""gymnasium-robotics' PointMaze physics with a fixed goal in the far corner."""

import dataclasses
import functools
import xml.etree.ElementTree as ET

import gymnasium
import mujoco
import numpy as np

from iql_jax.envs.assets import robotics_asset
from iql_jax.envs.maze_env import MazeEnv
from iql_jax.envs.mazes import Cell, pointmaze_maze, wall_cells
from iql_jax.errors import InputError, did_you_mean

_MAX_SPEED = 5.0  # metres per second along each axis
_WALL_HEIGHT = 0.4  # metres
_START_NOISE = 0.1  # metres along each axis


@dataclasses.dataclass(frozen=True)
class PointMazeTask:
    """A maze and the corner to reach; episodes start in the opposite one, cell (1, 1).

    Attributes:
      size: the map's name in `mazes.MAPS`.
      goal: the cell in whose centre the goal lies.
      max_episode_steps: the time limit.
    """

    size: str
    goal: Cell
    max_episode_steps: int


TASKS = {
    "umaze": PointMazeTask("umaze", (3, 1), 300),
    "medium": PointMazeTask("medium", (6, 6), 300),
    "large": PointMazeTask("large", (7, 10), 600),  # 300 are too few for the controller itself
}
START_CELL: Cell = (1, 1)
GENERATED_NAMES = tuple(f"generated/pointmaze-{size}-v0" for size in TASKS)


class PointMazeEnv(MazeEnv):
    """A ball pushed by forces; observations f64[4] are position and velocity.

    One step is that of gymnasium-robotics' PointMaze-v3 (0.01 s); the task differs: the goal is
    fixed, so no part of the observation, and is reached within 0.5 m, where the episode ends.
    """

    def __init__(self, name: str, task: PointMazeTask, render_mode: str | None = None):
        super().__init__(
            name,
            pointmaze_maze(task.size),
            pointmaze_model(task.size),
            frame_skip=1,
            max_episode_steps=task.max_episode_steps,
            render_mode=render_mode,
        )
        self.task = task

    def _draw_goal(self) -> np.ndarray:
        return np.array(self.maze.center(self.task.goal))

    def _draw_start(self) -> tuple[np.ndarray, np.ndarray]:
        return draw_position(self.maze.center(START_CELL), self.np_random), np.zeros(2)

    def simulate(self, action: np.ndarray) -> np.ndarray:
        # Constant pushes would speed the ball up without bound.
        np.clip(self._qvel, -_MAX_SPEED, _MAX_SPEED, out=self._qvel)
        return super().simulate(action)


def make_pointmaze(name: str, render_mode: str | None = None) -> gymnasium.Env:
    """The environment of that name, e.g. `generated/pointmaze-medium-v0`.

    Raises:
      InputError: there is no such PointMaze.
    """
    if name not in GENERATED_NAMES:
        raise InputError(
            f"no PointMaze is called '{name}'{did_you_mean(name, GENERATED_NAMES)} "
            f"(known: {', '.join(GENERATED_NAMES)})"
        )
    return PointMazeEnv(name, task_of(name), render_mode)


def task_of(name: str) -> PointMazeTask:
    """The task of a name in `GENERATED_NAMES`."""
    return TASKS[name.removeprefix("generated/pointmaze-").rsplit("-", 1)[0]]


def draw_position(center: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """f64[2], a position near a cell's centre."""
    return np.asarray(center) + rng.uniform(-_START_NOISE, _START_NOISE, 2)


@functools.cache
def pointmaze_model(size: str) -> mujoco.MjModel:
    """The compiled model of a maze; shared by its environments, so never written to again."""
    root = ET.parse(robotics_asset("point", "point.xml")).getroot()
    (world,) = root.findall("worldbody")
    maze = pointmaze_maze(size)
    half = maze.cell_size / 2
    for row, col in wall_cells(maze):
        x, y = maze.center((row, col))
        ET.SubElement(
            world,
            "geom",
            name=f"wall_{row}_{col}",
            type="box",
            pos=f"{x} {y} {_WALL_HEIGHT / 2}",
            size=f"{half} {half} {_WALL_HEIGHT / 2}",
            contype="1",
            conaffinity="1",
            rgba="0.7 0.5 0.3 1",
        )
    return mujoco.MjModel.from_xml_string(ET.tostring(root, encoding="unicode"))
