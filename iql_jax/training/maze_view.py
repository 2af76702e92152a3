"""What a picture of a maze needs: paths of evaluation episodes, and V all over the maze."""

import dataclasses

import numpy as np

from iql_jax.data import replay
from iql_jax.envs.maze_env import GOAL_RADIUS, MazeEnv
from iql_jax.envs.mazes import Maze
from iql_jax.report import maze as report_maze
from iql_jax.report.maze import MazeView
from iql_jax.training.problem import Problem

NUM_PATHS = 10
_NUM_GOALS = 32  # resets from which the place of the goal is learned
_POSTURES = 16  # observations of the data that V at a place is the mean over
_PER_CELL = 8  # points in each direction of a cell


@dataclasses.dataclass(frozen=True)
class Survey:
    """A maze and where in it the goals of an evaluation lie.

    Attributes:
      maze: the map.
      goal: f64[2], the mean of the goals.
      goal_radius: how far from it an episode can end, in metres.
      value_x, value_y: f64[W] and f64[H], increasing: where V is computed.
      free: bool[H, W]; False inside walls.
    """

    maze: Maze
    goal: np.ndarray
    goal_radius: float
    value_x: np.ndarray
    value_y: np.ndarray
    free: np.ndarray

    @property
    def walls(self) -> np.ndarray:
        """bool[R, C]."""
        return _walls(self.maze)

    @property
    def step(self) -> tuple[float, float]:
        """Metres from a column to the next, and from a row to the next."""
        return _step(self.maze)


def survey(problem: Problem) -> Survey | None:
    """Returns the maze of a problem's environment, or None if it is none."""
    if problem.env_name is None:
        return None
    env = problem.make_env()
    try:
        inner = env.unwrapped
        if not isinstance(inner, MazeEnv):
            return None
        goals = []
        for seed in range(_NUM_GOALS):
            env.reset(seed=seed)
            goals.append(inner.goal.copy())
        maze, mean = inner.maze, np.mean(goals, axis=0)
    finally:
        env.close()
    spread = float(np.linalg.norm(np.array(goals) - mean, axis=1).max())
    x, y, free = report_maze.value_grid(_walls(maze), maze.origin, _step(maze), _PER_CELL)
    return Survey(maze, mean, GOAL_RADIUS + spread, x, y, free)


class Paths:
    """Where the body of one member is in the first episodes of an evaluation.

    Attributes:
      member: whose.
      positions: for each episode, a list of (x, y) f32[2].
    """

    def __init__(self, member: int, num_paths: int = NUM_PATHS):
        self.member = member
        self.positions: list[list[np.ndarray]] = [[] for _ in range(num_paths)]

    def __call__(self, observations: np.ndarray, played: np.ndarray) -> None:
        """Takes a step's observations f32[P, n, O] of the episodes in `played` bool[P, n]."""
        shown = zip(self.positions, observations[self.member], played[self.member], strict=False)
        for positions, observation, goes_on in shown:
            if goes_on:
                positions.append(observation[:2].copy())


def value_rows(survey: Survey, problem: Problem, sample: np.ndarray) -> np.ndarray:
    """Returns rows f32[F * K, W] that ask for V at F free points, in K postures of the data each.

    Everything but the position is that of transitions of the sample: a body's posture and speed
    matter to V, and those of the data are the ones it was learned on.

    Args:
      survey: where to ask.
      problem: the transforms.
      sample: f32[M, W], transformed rows of the data.
    """
    x, y = np.meshgrid(survey.value_x, survey.value_y)
    places = np.zeros((int(survey.free.sum()), problem.observation_dim), np.float32)
    places[:, 0], places[:, 1] = x[survey.free], y[survey.free]
    places = problem.transforms.observation(places)
    chosen = np.linspace(0, len(sample) - 1, min(_POSTURES, len(sample))).astype(int)
    rows = np.repeat(sample[None, chosen], len(places), axis=0)  # [F, K, W]
    rows[:, :, :2] = places[:, None, :2]
    return rows.reshape(-1, replay.row_width(problem.observation_dim, problem.action_dim))


def draw(
    survey: Survey, paths: Paths, success: np.ndarray, values: np.ndarray | None, update: int
) -> MazeView:
    """Returns the picture of an evaluation.

    Args:
      survey: the maze.
      paths: of one member.
      success: bool[E], which of its episodes reached the goal.
      values: f32[F * K], V for `value_rows`; None if the agent has none.
      update: the number of updates done.
    """
    trajectories = [np.array(path, np.float32) for path in paths.positions if path]
    shown = np.full(survey.free.shape, np.nan, np.float32)
    if values is None:
        shown = np.zeros((0, 0), np.float32)
    else:
        shown[survey.free] = values.reshape(int(survey.free.sum()), -1).mean(axis=1)
    return MazeView(
        walls=survey.walls,
        origin=survey.maze.origin,
        step=survey.step,
        trajectories=trajectories,
        success=np.asarray(success[: len(trajectories)]),
        goal=(float(survey.goal[0]), float(survey.goal[1])),
        goal_radius=survey.goal_radius,
        value_x=survey.value_x if values is not None else np.zeros(0),
        value_y=survey.value_y if values is not None else np.zeros(0),
        values=shown,
        update=update,
    )


def _walls(maze: Maze) -> np.ndarray:
    return np.array([[cell == "1" for cell in row] for row in maze.rows])


def _step(maze: Maze) -> tuple[float, float]:
    return maze.cell_size, maze.row_sign * maze.cell_size
