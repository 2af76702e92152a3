"""D4RL's maze2d: a ball pushed to a point and kept there, in D4RL's coordinates and physics.

The suffix of a name (-v0, -v1) is the dataset's; what is made is what D4RL makes for it.
"""

import dataclasses
import functools
import xml.etree.ElementTree as ET
from typing import Any

import mujoco
import numpy as np

from iql_jax.envs import physics
from iql_jax.envs.d4rl_names import datasets, max_episode_steps
from iql_jax.envs.maze_env import MazeEnv
from iql_jax.envs.mazes import MAPS, Cell, Maze, free_cells, wall_cells
from iql_jax.errors import InputError, did_you_mean

_MAX_SPEED = 5.0  # metres per second along each axis
_START_NOISE = 0.1  # metres along each axis, and standard deviation of the starting velocity
_BALL_OFFSET = 0.2  # the ball is drawn, and meets walls, this far from where it is said to be
_PREFIX = "maze2d-"


@dataclasses.dataclass(frozen=True)
class Maze2dTask:
    """A map, its goal and what is rewarded.

    Attributes:
      size: the map's name in `mazes.MAPS`.
      goal: the goal's (row, column) in the map, which is its (x, y) as well.
      dense: reward exp(-distance) instead of 1 within 0.5 m.
    """

    size: str
    goal: Cell
    dense: bool


_GOALS: dict[str, Cell] = {
    "open": (2, 3),
    "umaze": (1, 1),
    "medium": (6, 6),
    "large": (7, 9),
    "eval-umaze": (1, 3),
    "eval-medium": (1, 6),
    "eval-large": (1, 9),
}


class Maze2dEnv(MazeEnv):
    """The ball's observations f64[4] are position and velocity; x is the map's row, y its column.

    An episode never terminates: the return counts the steps spent at the goal, or their nearness.
    """

    def __init__(
        self, name: str, task: Maze2dTask, time_limit: int, render_mode: str | None = None
    ):
        super().__init__(
            name,
            maze2d_maze(task.size),
            _model(task.size),
            frame_skip=1,
            max_episode_steps=time_limit,
            render_mode=render_mode,
        )
        self.task = task

    def _draw_goal(self) -> np.ndarray:
        return np.array(self.task.goal, np.float64)

    def _draw_start(self) -> tuple[np.ndarray, np.ndarray]:
        cells, rng = free_cells(self.maze), self.np_random
        center = self.maze.center(cells[int(rng.integers(len(cells)))])
        position = np.asarray(center) + rng.uniform(-_START_NOISE, _START_NOISE, 2)
        return position, _START_NOISE * rng.standard_normal(2)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation = self.simulate(action)
        success = self.at_goal()
        reward = float(success)
        if self.task.dense:
            reward = float(np.exp(-np.linalg.norm(observation[:2] - self.goal)))
        return observation, reward, False, self._out_of_time, {"success": success}

    def simulate(self, action: np.ndarray) -> np.ndarray:
        np.clip(self._qvel, -_MAX_SPEED, _MAX_SPEED, out=self._qvel)
        return super().simulate(action)


def d4rl_names() -> tuple[str, ...]:
    """Returns every D4RL name these environments evaluate."""
    return tuple(name for name in datasets() if name.startswith(_PREFIX))


def make_maze2d(name: str, render_mode: str | None = None) -> Maze2dEnv:
    """Returns the environment of a name such as `maze2d-large-dense-v1`, bare or as `d4rl/...`.

    Raises:
      InputError: there is no such maze2d.
    """
    bare = name.removeprefix("d4rl/")
    if bare not in d4rl_names():
        raise InputError(f"no maze2d is called '{name}'{did_you_mean(bare, d4rl_names())}")
    return Maze2dEnv(bare, task_of(bare), max_episode_steps(bare), render_mode)


def task_of(name: str) -> Maze2dTask:
    """Returns the task of a name in `d4rl_names()`."""
    middle = name.removeprefix(_PREFIX).rsplit("-", 1)[0]
    size = middle.removesuffix("-dense")
    return Maze2dTask(size, _GOALS[size], dense=size != middle)


def maze2d_maze(size: str) -> Maze:
    """Returns D4RL's maze2d of that size: 1 m cells, (x, y) = (row, column) of the map.

    The rows of the result are the map's columns, since in a `Maze` x grows with the column.
    """
    rows = tuple("".join(column) for column in zip(*MAPS[size], strict=True))
    return Maze(rows, cell_size=1.0, origin=(0.0, 0.0), row_sign=1)


@functools.cache
def _model(size: str) -> mujoco.MjModel:
    """Returns the compiled model of a maze; shared by its environments, so never written to."""
    physics.check_mujoco_version()
    root = ET.Element("mujoco", model="maze2d")
    ET.SubElement(root, "compiler", inertiafromgeom="true", angle="radian")
    ET.SubElement(
        root, "option", timestep="0.01", gravity="0 0 0", iterations="20", integrator="Euler"
    )
    default = ET.SubElement(root, "default")
    ET.SubElement(default, "joint", damping="1", limited="false")
    ET.SubElement(default, "geom", friction=".5 .1 .1", density="1000", margin="0.002", condim="1")
    world = ET.SubElement(root, "worldbody")
    ET.SubElement(world, "light", pos="4 4 9", dir="0 0 -1", diffuse=".8 .8 .8")
    ET.SubElement(
        world, "geom", type="plane", pos="0 0 -0.1", size="40 40 0.25", rgba="0.2 0.3 0.4 1",
        contype="1", conaffinity="0",
    )  # fmt: skip
    ball = ET.SubElement(world, "body", name="ball", pos=f"{_BALL_OFFSET} {_BALL_OFFSET} 0")
    ET.SubElement(
        ball, "geom", type="sphere", size="0.1", rgba="0.3 0.8 0.3 1", contype="1", conaffinity="1"
    )
    for axis, direction in (("x", "1 0 0"), ("y", "0 1 0")):
        ET.SubElement(ball, "joint", name=f"ball_{axis}", type="slide", axis=direction)
    _add_walls(world, maze2d_maze(size))
    actuator = ET.SubElement(root, "actuator")
    for axis in ("x", "y"):
        ET.SubElement(
            actuator, "motor", joint=f"ball_{axis}", gear="100", ctrlrange="-1 1",
            ctrllimited="true",
        )  # fmt: skip
    model = mujoco.MjModel.from_xml_string(ET.tostring(root, encoding="unicode"))
    # MuJoCo 2.1.0 averaged over the directions a body can be pushed in, of which the ball has two
    # of three; today's takes 1 / mass, and walls push back 1.7% less.
    model.body_invweight0[-1, 0] *= 2 / 3
    return model


def _add_walls(world: ET.Element, maze: Maze) -> None:
    for cell in wall_cells(maze):
        x, y = maze.center(cell)
        ET.SubElement(
            world, "geom", type="box", pos=f"{x} {y} 0", size="0.5 0.5 0.2", rgba="0.7 0.5 0.3 1",
            contype="2", conaffinity="1",
        )  # fmt: skip
