"""D4RL's hopper, halfcheetah, walker2d and ant, in the physics their data was collected in.

The suffix of a D4RL name (-v0, -v1, -v2) versions the dataset: D4RL makes the same environments for
all of them, the classes of Gym's Hopper-v2, HalfCheetah-v2, Walker2d-v2 and Ant-v2 with actions
clipped to [-1, 1]. Gymnasium's models are used with MuJoCo 2.1.0's masses. Which physics the
collecting runs of the older datasets used is not recorded with them; what is reproduced here is
the evaluation.

Ant's 111 observations are 27 numbers of the body and 84 contact forces, which are all zero in
D4RL's data and environment (MuJoCo 2 does not compute them unasked), and so is their cost.
"""

import dataclasses
import functools
import importlib.resources
from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np

from iql_jax.envs.mujoco_task import MujocoTask
from iql_jax.envs.physics import restore_mujoco210

Health = Callable[[np.ndarray, np.ndarray], bool]


def _hopper_healthy(qpos: np.ndarray, qvel: np.ndarray) -> bool:
    # A NaN compares false, hence ends the episode, in each of these.
    return bool(
        qpos[1] > 0.7
        and abs(qpos[2]) < 0.2
        and np.abs(qpos[2:]).max() < 100
        and np.abs(qvel).max() < 100
    )


def _walker2d_healthy(qpos: np.ndarray, qvel: np.ndarray) -> bool:
    return bool(0.8 < qpos[1] < 2.0 and -1.0 < qpos[2] < 1.0)


def _ant_healthy(qpos: np.ndarray, qvel: np.ndarray) -> bool:
    return bool(0.2 <= qpos[2] <= 1.0 and np.isfinite(qpos).all() and np.isfinite(qvel).all())


def _always_healthy(qpos: np.ndarray, qvel: np.ndarray) -> bool:
    return True


@dataclasses.dataclass(frozen=True)
class Task:
    """What tells the four apart.

    Attributes:
      model_file: among Gymnasium's MuJoCo models.
      frame_skip: simulator steps per environment step.
      hidden: leading positions left out of the observation.
      padding: zeros appended to the observation.
      velocity_limit: observed velocities are clipped to +- this.
      alive_bonus: reward per step, the last one included.
      control_cost: reward lost per unit of squared action.
      reset_noise: half-width of the uniform noise on the initial state.
      normal_velocities: whether initial velocities are normal with that scale instead.
      healthy: the episode terminates where this is False.
    """

    model_file: str
    frame_skip: int
    hidden: int
    padding: int
    velocity_limit: float
    alive_bonus: float
    control_cost: float
    reset_noise: float
    normal_velocities: bool
    healthy: Health


TASKS = {
    "hopper": Task("hopper.xml", 4, 1, 0, 10.0, 1.0, 1e-3, 5e-3, False, _hopper_healthy),
    "halfcheetah": Task("half_cheetah.xml", 5, 1, 0, np.inf, 0.0, 0.1, 0.1, True, _always_healthy),
    "walker2d": Task("walker2d.xml", 4, 1, 0, 10.0, 1.0, 1e-3, 5e-3, False, _walker2d_healthy),
    "ant": Task("ant.xml", 5, 2, 84, np.inf, 1.0, 0.5, 0.1, True, _ant_healthy),
}
MAX_EPISODE_STEPS = 1000


@functools.cache
def _model(name: str) -> mujoco.MjModel:
    """The compiled model, one for all environments of the task."""
    assets = importlib.resources.files("gymnasium.envs.mujoco").joinpath("assets")
    with importlib.resources.as_file(assets.joinpath(TASKS[name].model_file)) as path:
        model = mujoco.MjModel.from_xml_path(str(path))
    restore_mujoco210(model, name)
    return model


class Locomotion(MujocoTask):
    """Run forward: reward is forward speed plus an alive bonus less a control cost."""

    def __init__(self, name: str):
        model, task = _model(name), TASKS[name]
        super().__init__(
            model,
            frame_skip=task.frame_skip,
            observation_dim=model.nq - task.hidden + model.nv + task.padding,
            max_episode_steps=MAX_EPISODE_STEPS,
        )
        self.task = task
        self._padding = np.zeros(task.padding)
        # The body position that Gym's Ant takes its speed from: that of the last substep's
        # beginning, which is not part of the simulator's state. The others read qpos.
        self._tracked = self.data.body("torso").xpos if name == "ant" else self._qpos
        self._forward_position = 0.0

    def _sample_start(self) -> tuple[np.ndarray, np.ndarray]:
        noise = self.task.reset_noise
        qpos = self.init_qpos + self.np_random.uniform(-noise, noise, self.model.nq)
        if self.task.normal_velocities:
            return qpos, self.init_qvel + noise * self.np_random.standard_normal(self.model.nv)
        return qpos, self.init_qvel + self.np_random.uniform(-noise, noise, self.model.nv)

    def set_state(self, qpos: np.ndarray, qvel: np.ndarray) -> None:
        super().set_state(qpos, qvel)
        self._forward_position = float(self._tracked[0])

    def _observation(self) -> np.ndarray:
        qvel, limit = self._qvel, self.task.velocity_limit
        if limit < np.inf:
            qvel = np.minimum(np.maximum(qvel, -limit), limit)
        return np.concatenate((self._qpos[self.task.hidden :], qvel, self._padding))

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        task, before = self.task, self._forward_position
        ctrl = self._simulate(action)
        self._forward_position = float(self._tracked[0])
        speed = (self._forward_position - before) / self.dt
        reward = speed + task.alive_bonus - task.control_cost * float(ctrl.dot(ctrl))
        terminated = not task.healthy(self._qpos, self._qvel)
        return self._observation(), reward, terminated, self._out_of_time, {}

    def _task_state(self) -> float:
        return self._forward_position

    def _restore_task_state(self, state: float) -> None:
        self._forward_position = state
