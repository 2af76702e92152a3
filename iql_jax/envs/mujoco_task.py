"""The base of this package's own MuJoCo environments: lean steps, exactly restorable state."""

import abc
from typing import Any

import gymnasium
import mujoco
import numpy as np

from iql_jax.envs import physics


class MujocoTask(gymnasium.Env, abc.ABC):
    """A Gymnasium environment over one MuJoCo model, without the wrappers and their cost.

    Actions are in [-1, 1] and clipped to it, observations f64[O]. The time limit is the
    environment's own. Only `data` changes, so environments of one task can share their `model`
    and step in different threads.

    Subclasses give `step`, `_sample_start` and `_observation`; where an episode holds more than
    the simulator does (a goal), also `_task_state` and `_restore_task_state`.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        *,
        frame_skip: int,
        observation_dim: int,
        max_episode_steps: int,
    ):
        self.model = model
        self.data = mujoco.MjData(model)
        self.frame_skip = frame_skip
        self.dt = model.opt.timestep * frame_skip
        self.max_episode_steps = max_episode_steps
        self.elapsed_steps = 0
        self.observation_space = gymnasium.spaces.Box(
            -np.inf, np.inf, (observation_dim,), np.float64
        )
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (model.nu,), np.float32)
        self.init_qpos = self.data.qpos.copy()
        self.init_qvel = self.data.qvel.copy()
        # Views into the simulation: looking them up through `data` costs more than using them.
        self._qpos, self._qvel, self._ctrl = self.data.qpos, self.data.qvel, self.data.ctrl

    @abc.abstractmethod
    def _sample_start(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns (qpos, qvel) of a new episode, drawn with `self.np_random`."""

    @abc.abstractmethod
    def _observation(self) -> np.ndarray:
        """Returns f64[O], a new array."""

    def _task_state(self) -> Any:
        """Returns what an episode holds beside the simulator, as picklable values."""
        return None

    def _restore_task_state(self, state: Any) -> None:
        """Continues from what `_task_state` returned."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts an episode and returns (observation, info); no options are known."""
        super().reset(seed=seed)
        mujoco.mj_resetData(self.model, self.data)
        self.set_state(*self._sample_start())
        return self._observation(), {}

    def set_state(self, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """Puts the simulation at these positions and velocities, at the start of an episode."""
        self._qpos[:] = qpos
        self._qvel[:] = qvel
        mujoco.mj_forward(self.model, self.data)
        self.elapsed_steps = 0

    def _simulate(self, action: np.ndarray) -> np.ndarray:
        """Advances one environment step and returns the clipped action, f64[A]."""
        action = np.asarray(action)
        if action.shape != self._ctrl.shape:
            raise ValueError(f"action has shape {action.shape}, expected {self._ctrl.shape}")
        np.maximum(action, -1.0, out=self._ctrl)
        np.minimum(self._ctrl, 1.0, out=self._ctrl)
        # One call for all substeps: MuJoCo releases the interpreter lock for its duration.
        mujoco.mj_step(self.model, self.data, self.frame_skip)
        self.elapsed_steps += 1
        return self._ctrl

    @property
    def _out_of_time(self) -> bool:
        return self.elapsed_steps >= self.max_episode_steps

    def save_state(self) -> dict[str, Any]:
        """Returns all that the rest of the episode and later resets depend on, picklable."""
        return {
            "physics": physics.get_integration_state(self.model, self.data),
            "random": self.np_random.bit_generator.state,
            "elapsed_steps": self.elapsed_steps,
            "task": self._task_state(),
        }

    def restore_state(self, state: dict[str, Any]) -> None:
        """Continues bit for bit from what `save_state` returned, here or in another process."""
        physics.set_integration_state(self.model, self.data, state["physics"])
        self.np_random.bit_generator.state = state["random"]
        self.elapsed_steps = state["elapsed_steps"]
        self._restore_task_state(state["task"])
