"""Trajectories of the maze controllers: the raw material of the generated datasets."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from iql_jax.envs import antmaze, controllers, pointmaze
from iql_jax.envs.maze_env import GOAL_RADIUS, MazeEnv
from iql_jax.envs.mazes import Cell, d4rl_maze, free_cells, pointmaze_maze

# D4RL's hand-picked goals of its "play" data. Those of its large maze hold the cell that the
# evaluation asks for; those of its medium maze miss it by one cell, (6, 6), which is added here: in
# half as many rows as D4RL's, ants that come there by chance alone are too few to learn from.
_PLAY_GOALS: dict[str, tuple[Cell, ...]] = {
    "medium": ((2, 6), (5, 1), (6, 5), (6, 6)),
    "large": ((1, 6), (3, 5), (3, 10), (5, 2), (7, 4), (7, 6), (7, 9)),
}
NAMES = pointmaze.GENERATED_NAMES + antmaze.GENERATED_NAMES


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How the trajectories of a dataset are made.

    Attributes:
      is_ant: whether an ant walks, or a ball is driven.
      physics: whose physics it is, in words.
      noise: standard deviation of what is added to each action.
      num_steps: the time limit; a trajectory has one row more, as in D4RL's AntMaze.
      starts: cells to start from, drawn anew for each trajectory.
      goals: cells to walk to, likewise.
      reward_xy: the point near which rewards and terminals are set, whatever the walk's goal.
    """

    is_ant: bool
    physics: str
    noise: float
    num_steps: int
    starts: tuple[Cell, ...]
    goals: tuple[Cell, ...]
    reward_xy: tuple[float, float]

    @property
    def num_positions(self) -> int:
        """Numbers of qpos, the first part of an observation."""
        return 15 if self.is_ant else 2

    @property
    def num_velocities(self) -> int:
        """Numbers of qvel, the rest of an observation."""
        return 14 if self.is_ant else 2

    @property
    def num_actions(self) -> int:
        """Numbers of an action."""
        return 8 if self.is_ant else 2


class Trajectory(NamedTuple):
    """T rows, each a state, the action taken in it, and what that led to.

    Attributes:
      observations: f32[T, O].
      actions: f32[T, A] in [-1, 1], noise included.
      rewards: f32[T]; 1 where the next state is within 0.5 m of the evaluation's goal, else 0.
      target: f32[2], (x, y) the controller was walking to.
      reached: whether it has come within 0.5 m of it.
      fell: whether the body lies on its back at the end.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    target: np.ndarray
    reached: bool
    fell: bool


def protocol(name: str) -> Protocol:
    """The protocol of a dataset in `NAMES`."""
    if name in pointmaze.GENERATED_NAMES:
        return _point_protocol(pointmaze.task_of(name))
    task = antmaze.task_of(name)
    free = free_cells(d4rl_maze(task.size))
    starts, goals = free, free
    if name == "generated/antmaze-umaze-v0":
        starts, goals = (antmaze.START_CELL,), (task.goal,)
    elif "-play-" in name:
        goals = _PLAY_GOALS[task.size]
        starts = tuple(cell for cell in free if cell not in goals)
    x, y = antmaze.mean_goal(task).tolist()
    return Protocol(
        is_ant=True,
        physics="D4RL's AntMaze physics",
        noise=0.2,
        num_steps=task.max_episode_steps,
        starts=starts,
        goals=goals,
        reward_xy=(x, y),
    )


def _point_protocol(task: pointmaze.PointMazeTask) -> Protocol:
    maze = pointmaze_maze(task.size)
    return Protocol(
        is_ant=False,
        physics="gymnasium-robotics' PointMaze physics",
        noise=0.3,
        num_steps=300,
        starts=free_cells(maze),
        goals=free_cells(maze),
        reward_xy=maze.center(task.goal),
    )


def collect(name: str, rng: np.random.Generator) -> Trajectory:
    """One trajectory of a dataset in `NAMES`; the same for the same generator, in any thread."""
    if name in pointmaze.GENERATED_NAMES:
        return _collect_point(name, rng)
    return _collect_ant(name, rng)


def _collect_ant(name: str, rng: np.random.Generator) -> Trajectory:
    env = antmaze.AntMazeEnv(name, antmaze.task_of(name))
    rules = protocol(name)
    target = antmaze.draw_goal_near(env.maze.center(_draw(rules.goals, rng)), rng)
    qpos, qvel = antmaze.draw_pose(env.model, rng)
    if len(rules.starts) > 1:
        qpos[:2] = antmaze.draw_start_near(env.maze.center(_draw(rules.starts, rng)), rng)
    x, y = target.tolist()
    walker = controllers.AntWalker(env.maze, (x, y), rng)
    return _walk(env, rules, env.place(qpos, qvel), walker, target, rng)


def _collect_point(name: str, rng: np.random.Generator) -> Trajectory:
    env = pointmaze.PointMazeEnv(name, pointmaze.task_of(name))
    rules = protocol(name)
    start = _draw(rules.starts, rng)
    target = _draw([cell for cell in rules.goals if cell != start], rng)
    first = env.place(pointmaze.draw_position(env.maze.center(start), rng), np.zeros(2))
    target_xy = env.maze.center(target)

    def act(observation: np.ndarray) -> np.ndarray:
        return controllers.point_action(env.maze, observation, target_xy)

    return _walk(env, rules, first, act, np.array(target_xy), rng)


def _draw(cells: Sequence[Cell], rng: np.random.Generator) -> Cell:
    return cells[int(rng.integers(len(cells)))]


def _walk(
    env: MazeEnv,
    rules: Protocol,
    first: np.ndarray,
    act: Callable[[np.ndarray], np.ndarray],
    target: np.ndarray,
    rng: np.random.Generator,
) -> Trajectory:
    """The trajectory of a controller from observation `first`: to the target, then about it."""
    num_rows = rules.num_steps + 1
    states = np.empty((num_rows + 1, len(first)))
    actions = np.empty((num_rows, rules.num_actions))
    disturbances = rules.noise * rng.standard_normal(actions.shape)
    states[0] = first
    for t in range(num_rows):
        np.clip(act(states[t]) + disturbances[t], -1.0, 1.0, out=actions[t])
        states[t + 1] = env.simulate(actions[t])

    def is_near(point: Sequence[float] | np.ndarray) -> np.ndarray:
        return np.linalg.norm(states[1:, :2] - point, axis=1) <= GOAL_RADIUS

    return Trajectory(
        observations=states[:-1].astype(np.float32),
        actions=actions.astype(np.float32),
        rewards=is_near(rules.reward_xy).astype(np.float32),
        target=target.astype(np.float32),
        reached=bool(is_near(target).any()),
        fell=rules.is_ant and _is_upside_down(states[-1]),
    )


def _is_upside_down(state: np.ndarray) -> bool:
    """Whether an ant's own upward direction points down."""
    _, qx, qy, _ = state[3:7]
    return bool(qx * qx + qy * qy > 0.5)
