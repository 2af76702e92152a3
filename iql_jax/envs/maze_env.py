"""What the maze environments share: reach a point."""

import abc
from typing import Any

import gymnasium
import mujoco
import numpy as np

from iql_jax.envs.mazes import Maze
from iql_jax.envs.mujoco_task import MujocoTask

GOAL_RADIUS = 0.5  # metres, D4RL's


class MazeEnv(MujocoTask):
    """A body in a maze: reward 1 and the end within `GOAL_RADIUS` of the goal, else reward 0.

    Observations are qpos and qvel. The compiled model is shared by all environments of a maze, so
    that hundreds of them are cheap. `info["success"]` tells in each step whether the goal is
    reached. The random numbers of a reset give the goal first, then the start.

    Attributes:
      maze: its map.
      goal: f64[2], (x, y) of the goal of this episode.
    """

    def __init__(
        self,
        name: str,
        maze: Maze,
        model: mujoco.MjModel,
        *,
        frame_skip: int,
        max_episode_steps: int,
        render_mode: str | None = None,
    ):
        super().__init__(
            name,
            model,
            frame_skip=frame_skip,
            observation_dim=model.nq + model.nv,
            max_episode_steps=max_episode_steps,
            render_mode=render_mode,
        )
        self.maze = maze
        self.goal = np.zeros(2)

    @abc.abstractmethod
    def _draw_goal(self) -> np.ndarray:
        """Returns f64[2], the goal of a new episode, drawn from `np_random`."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        gymnasium.Env.reset(self, seed=seed)  # seeds `np_random`, which the goal needs first
        self.goal = self._draw_goal()
        observation, _ = super().reset(options=options)
        return observation, {"success": self.at_goal()}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation = self.simulate(action)
        success = self.at_goal()
        return observation, float(success), success, self._out_of_time, {"success": success}

    def simulate(self, action: np.ndarray) -> np.ndarray:
        """Advances the physics by one environment step, whatever the goal; f64[O]."""
        self._simulate(action)
        return self._observation()

    def at_goal(self) -> bool:
        """Whether the body is within `GOAL_RADIUS` of the goal."""
        # With numbers of Python: half the time that arrays of two take.
        x = self._qpos.item(0) - self.goal.item(0)
        y = self._qpos.item(1) - self.goal.item(1)
        return x * x + y * y <= GOAL_RADIUS**2

    def _observation(self) -> np.ndarray:
        return np.concatenate((self._qpos, self._qvel))

    def _task_state(self) -> np.ndarray:
        return self.goal.copy()

    def _set_task_state(self, state: np.ndarray) -> None:
        self.goal = state.copy()

    def _camera(self) -> mujoco.MjvCamera:
        """Nearly straight above the middle of the maze, all of it in sight."""
        num_rows, num_cols = self.maze.shape
        corners = np.array(
            [self.maze.center((0, 0)), self.maze.center((num_rows - 1, num_cols - 1))]
        )
        camera = mujoco.MjvCamera()
        camera.lookat[:2] = corners.mean(axis=0)
        camera.distance = 1.35 * self.maze.cell_size * max(num_rows, num_cols)
        camera.azimuth, camera.elevation = 90.0, -80.0
        return camera

    def _decorate(self, scene: mujoco.MjvScene) -> None:
        """A red disc at the goal, which differs between environments that share a model."""
        mujoco.mjv_initGeom(
            scene.geoms[scene.ngeom],
            mujoco.mjtGeom.mjGEOM_CYLINDER,
            np.array([GOAL_RADIUS, GOAL_RADIUS, 0.02]),
            np.array([*self.goal, 0.02]),
            np.eye(3).ravel(),
            np.array([0.9, 0.1, 0.1, 1.0], np.float32),
        )
        scene.ngeom += 1
