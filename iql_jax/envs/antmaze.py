"""D4RL's AntMaze on the current MuJoCo, step for step that of MuJoCo 2.1.0."""

import dataclasses
import functools
import pathlib
import xml.etree.ElementTree as ET

import gymnasium
import mujoco
import numpy as np

from iql_jax.envs import physics
from iql_jax.envs.maze_env import MazeEnv
from iql_jax.envs.mazes import Cell, d4rl_maze, wall_cells
from iql_jax.errors import InputError, did_you_mean

_WALL_HEIGHT = 2.0  # metres: half a cell
_FRAME_SKIP = 5


@dataclasses.dataclass(frozen=True)
class AntMazeTask:
    """One of D4RL's mazes with its evaluation protocol.

    Attributes:
      size: the map's name in `mazes.MAPS`.
      goal: the evaluation's goal cell; episodes start in cell (1, 1).
      max_episode_steps: the time limit.
    """

    size: str
    goal: Cell
    max_episode_steps: int


_UMAZE = AntMazeTask("umaze", (3, 1), 700)
_MEDIUM = AntMazeTask("medium", (6, 6), 1000)
_LARGE = AntMazeTask("large", (7, 9), 1000)
# By the middle of the name; play and diverse differ in their data, not in their environment.
TASKS = {
    "umaze": _UMAZE,
    "umaze-diverse": _UMAZE,
    "medium-play": _MEDIUM,
    "medium-diverse": _MEDIUM,
    "large-play": _LARGE,
    "large-diverse": _LARGE,
}
START_CELL: Cell = (1, 1)
D4RL_NAMES = tuple(f"antmaze-{task}-v{version}" for version in (0, 2) for task in TASKS)
GENERATED_NAMES = tuple(f"generated/antmaze-{task}-v0" for task in TASKS)


class AntMazeEnv(MazeEnv):
    """An ant walks from cell (1, 1) to the far end; observations f64[29] are qpos and qvel.

    The goal is drawn anew at each reset, as in D4RL's v2 environments. D4RL's v0 drew one for the
    life of an environment, which has the same expected score and a far larger variance over seeds;
    here v0 and v2 are the same environment, and only their data differ.
    """

    def __init__(self, name: str, task: AntMazeTask, render_mode: str | None = None):
        super().__init__(
            name,
            d4rl_maze(task.size),
            antmaze_model(task.size),
            frame_skip=_FRAME_SKIP,
            max_episode_steps=task.max_episode_steps,
            render_mode=render_mode,
        )
        self.task = task

    def _draw_goal(self) -> np.ndarray:
        return draw_goal_near(self.maze.center(self.task.goal), self.np_random)

    def _draw_start(self) -> tuple[np.ndarray, np.ndarray]:
        return draw_pose(self.model, self.np_random)


def make_antmaze(name: str, render_mode: str | None = None) -> gymnasium.Env:
    """The environment of that name, e.g. `antmaze-large-play-v2` or `generated/antmaze-umaze-v0`.

    Raises:
      InputError: there is no such AntMaze.
    """
    known = D4RL_NAMES + GENERATED_NAMES
    bare = name.removeprefix("d4rl/")
    if bare not in known:
        raise InputError(
            f"no AntMaze is called '{name}'{did_you_mean(bare, known)} (known: {', '.join(known)})"
        )
    return AntMazeEnv(name, task_of(bare), render_mode)


def task_of(name: str) -> AntMazeTask:
    """The task of a name in `D4RL_NAMES` or `GENERATED_NAMES`."""
    return TASKS[name.removeprefix("generated/").removeprefix("antmaze-").rsplit("-", 1)[0]]


def draw_goal_near(center: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """f64[2], a goal as D4RL draws it around a cell's centre: off it by up to 1.5 m, never < 0."""
    offset = rng.uniform(0.0, 1.0, 2) + rng.uniform(0.0, 0.5, 2)
    return np.maximum(np.asarray(center) + offset, 0.0)


def draw_start_near(center: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """f64[2], a start of D4RL's data around a cell's centre: off it by up to 1 m."""
    return np.asarray(center) + rng.uniform(0.0, 1.0, 2)


def mean_goal(task: AntMazeTask) -> np.ndarray:
    """f64[2], the mean of the goals an evaluation draws."""
    return np.asarray(d4rl_maze(task.size).center(task.goal)) + 0.75


def draw_pose(model: mujoco.MjModel, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(qpos, qvel) of an ant near its rest at the origin."""
    qpos = model.qpos0 + rng.uniform(-0.1, 0.1, model.nq)
    return qpos, 0.1 * rng.standard_normal(model.nv)


@functools.cache
def antmaze_model(size: str) -> mujoco.MjModel:
    """The compiled model of a maze; shared by its environments, so never written to again."""
    model = mujoco.MjModel.from_xml_string(_antmaze_xml(size))
    physics.restore_mujoco210(model, "antmaze")
    # Splitting contacts into islands changes nothing for a single body, and costs 7% of a step.
    # Older versions do so only when asked, and lack the flag.
    model.opt.disableflags |= int(getattr(mujoco.mjtDisableBit, "mjDSBL_ISLAND", 0))
    return model


def _antmaze_xml(size: str) -> str:
    """MuJoCo XML: Gymnasium's ant with D4RL's constants, and the walls.

    D4RL's ant has weaker motors, a longer timestep and softer contacts than Gymnasium's; the body
    is the same.
    """
    asset = pathlib.Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / "ant.xml"
    root = ET.parse(asset).getroot()
    _only(root, "option").set("timestep", "0.02")
    contacts = _only(root, "default/geom")
    contacts.set("solref", "0.02 1")
    contacts.set("solimp", "0.8 0.8 0.01")
    for motor in _only(root, "actuator"):
        motor.set("gear", "30")
    floor = _only(root, "worldbody/geom")
    floor.attrib.pop("material")  # its fine checkers flicker when drawn from far above
    floor.set("rgba", "0.4 0.45 0.5 1")
    world, maze = _only(root, "worldbody"), d4rl_maze(size)
    for row, col in wall_cells(maze):
        x, y = maze.center((row, col))
        ET.SubElement(
            world,
            "geom",
            name=f"wall_{row}_{col}",
            type="box",
            pos=f"{x} {y} {_WALL_HEIGHT / 2}",
            size=f"{maze.cell_size / 2} {maze.cell_size / 2} {_WALL_HEIGHT / 2}",
            contype="1",
            conaffinity="1",
            rgba="0.7 0.5 0.3 1",
        )
    return ET.tostring(root, encoding="unicode")


def _only(root: ET.Element, path: str) -> ET.Element:
    """The one element at `path`, which Gymnasium's ant has had in every version so far."""
    (element,) = root.findall(path)
    return element
