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

from iql_jax.envs.d4rl_names import datasets
from iql_jax.envs.mujoco_task import MujocoTask
from iql_jax.envs.physics import restore_mujoco210

Health = Callable[[np.ndarray, np.ndarray], bool]


def _within(values: np.ndarray, limit: float) -> bool:
    """Returns whether every magnitude is below `limit`; False where there is a NaN."""
    # The norm bounds every magnitude at a tenth of the cost of looking at each, and mostly settles
    # it; this is on the path of every step.
    return bool(values.dot(values) < limit * limit or np.abs(values).max() < limit)


def _hopper_healthy(qpos: np.ndarray, qvel: np.ndarray) -> bool:
    # A NaN compares false, hence ends the episode, in each of these.
    return bool(
        qpos[1] > 0.7 and abs(qpos[2]) < 0.2 and _within(qpos[2:], 100.0) and _within(qvel, 100.0)
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

    def __init__(self, name: str, body: str, render_mode: str | None = None):
        model, task = _model(body), TASKS[body]
        super().__init__(
            name,
            model,
            frame_skip=task.frame_skip,
            observation_dim=model.nq - task.hidden + model.nv + task.padding,
            max_episode_steps=MAX_EPISODE_STEPS,
            render_mode=render_mode,
        )
        self.task = task
        self._padding = np.zeros(task.padding)
        # The body position that Gym's Ant takes its speed from: that of the last substep's
        # beginning, which is not part of the simulator's state. The others read qpos.
        self._tracked = self.data.body("torso").xpos if body == "ant" else self._qpos
        self._forward_position = 0.0

    def _draw_start(self) -> tuple[np.ndarray, np.ndarray]:
        noise, rng, nv = self.task.reset_noise, self.np_random, self.model.nv
        qpos = self.model.qpos0 + rng.uniform(-noise, noise, self.model.nq)
        if self.task.normal_velocities:
            return qpos, noise * rng.standard_normal(nv)
        return qpos, rng.uniform(-noise, noise, nv)

    def place(self, qpos: np.ndarray, qvel: np.ndarray) -> np.ndarray:
        observation = super().place(qpos, qvel)
        self._forward_position = float(self._tracked[0])
        return observation

    def _observation(self) -> np.ndarray:
        qvel, limit = self._qvel, self.task.velocity_limit
        if not _within(qvel, limit):
            qvel = np.clip(qvel, -limit, limit)
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

    def _set_task_state(self, state: float) -> None:
        self._forward_position = state


def d4rl_names() -> tuple[str, ...]:
    """Returns every D4RL name these environments evaluate."""
    return tuple(name for name in datasets() if name.split("-")[0] in TASKS)


def make_locomotion(name: str, render_mode: str | None = None) -> Locomotion:
    """Returns the environment of a name in `d4rl_names()`, bare or as `d4rl/...`."""
    bare = name.removeprefix("d4rl/")
    return Locomotion(bare, bare.split("-")[0], render_mode)
