"""The base of MuJoCo environments made here: lean steps, exactly restorable state."""

import abc
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium.envs.registration import EnvSpec

from iql_jax.envs import physics


class MujocoTask(gymnasium.Env[np.ndarray, np.ndarray], abc.ABC):
    """A Gymnasium environment over one MuJoCo model, without the wrappers and their cost.

    Actions are in [-1, 1] and clipped to it, observations f64[O]. The time limit is the
    environment's own. Only `data` changes, so environments of one task can share their `model`
    and step in different threads.

    Subclasses give `step`, `_draw_start` and `_observation`; where an episode holds more than the
    simulator does (a goal), also `_task_state` and `_set_task_state`.

    Attributes:
      model: the compiled model; shared, so never written to.
      data: this environment's simulation.
      dt: seconds per environment step.
      max_episode_steps: the time limit in environment steps.
      elapsed_steps: steps since the episode's start.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012  Gymnasium's type

    def __init__(
        self,
        name: str,
        model: mujoco.MjModel,
        *,
        frame_skip: int,
        observation_dim: int,
        max_episode_steps: int,
        render_mode: str | None = None,
    ):
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode {render_mode!r} is none of None, 'rgb_array'")
        self.render_mode = render_mode
        self.spec = EnvSpec(id=name, max_episode_steps=max_episode_steps)
        self.model, self.data = model, mujoco.MjData(model)
        self.dt = model.opt.timestep * frame_skip
        self.max_episode_steps = max_episode_steps
        self.elapsed_steps = 0
        self.observation_space = gymnasium.spaces.Box(
            -np.inf, np.inf, (observation_dim,), np.float64
        )
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (model.nu,), np.float32)
        self._frame_skip = frame_skip
        self._action_low, self._action_high = np.full(model.nu, -1.0), np.ones(model.nu)
        self._renderer: mujoco.Renderer | None = None
        # Views into the simulation: looking them up through `data` costs more than using them.
        self._qpos, self._qvel, self._ctrl = self.data.qpos, self.data.qvel, self.data.ctrl

    @abc.abstractmethod
    def _draw_start(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns (qpos, qvel) at the start of a new episode, drawn from `np_random`."""

    @abc.abstractmethod
    def _observation(self) -> np.ndarray:
        """Returns f64[O], a new array."""

    def _task_state(self) -> Any:
        """Returns what an episode holds beside the simulator, as picklable values."""
        return None

    def _set_task_state(self, state: Any) -> None:
        """Continues from what `_task_state` returned."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return self.place(*self._draw_start()), {}

    def place(self, qpos: np.ndarray, qvel: np.ndarray) -> np.ndarray:
        """Starts an episode there, with nothing left of the last one; returns the observation."""
        mujoco.mj_resetData(self.model, self.data)
        self._qpos[:] = qpos
        self._qvel[:] = qvel
        # As MuJoCo 2.1.0 does in mj_forward, so D4RL's first observations are normalised.
        mujoco.mj_normalizeQuat(self.model, self._qpos)
        mujoco.mj_forward(self.model, self.data)
        self.elapsed_steps = 0
        return self._observation()

    def _simulate(self, action: np.ndarray) -> np.ndarray:
        """Advances one environment step and returns the clipped action, f64[A]."""
        action = np.asarray(action)
        if action.shape != self._ctrl.shape:
            raise ValueError(f"action has shape {action.shape}, expected {self._ctrl.shape}")
        ctrl = self._ctrl
        np.maximum(action, self._action_low, out=ctrl)  # in place with arrays: a third of np.clip
        np.minimum(ctrl, self._action_high, out=ctrl)
        # One call for all substeps: MuJoCo releases the interpreter lock for its duration.
        mujoco.mj_step(self.model, self.data, self._frame_skip)
        self.elapsed_steps += 1
        return ctrl

    @property
    def _out_of_time(self) -> bool:
        return self.elapsed_steps >= self.max_episode_steps

    def get_state(self) -> dict[str, Any]:
        """Returns all that the rest of the episode and later resets depend on, picklable."""
        return {
            "physics": physics.get_integration_state(self.model, self.data),
            "random": self.np_random.bit_generator.state,
            "elapsed_steps": self.elapsed_steps,
            "task": self._task_state(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues bit for bit from what `get_state` returned, here or in another process."""
        physics.set_integration_state(self.model, self.data, state["physics"])
        self.np_random.bit_generator.state = state["random"]
        self.elapsed_steps = state["elapsed_steps"]
        self._set_task_state(state["task"])

    def render(self) -> np.ndarray | None:
        """Returns u8[480, 480, 3] from the task's camera; None without a render mode."""
        if self.render_mode is None:
            return None
        if self._renderer is None:
            self._renderer = mujoco.Renderer(self.model, height=480, width=480)
        # A copy, since deriving the positions to draw would disturb the solver's warm start.
        scratch = mujoco.MjData(self.model)
        scratch.qpos[:] = self._qpos
        mujoco.mj_forward(self.model, scratch)
        self._renderer.update_scene(scratch, camera=self._camera())
        self._decorate(self._renderer.scene)
        return self._renderer.render()

    def _camera(self) -> int | mujoco.MjvCamera:
        """Returns where `render` looks from; the model's first camera by default."""
        return 0

    def _decorate(self, scene: mujoco.MjvScene) -> None:
        """Adds to the picture what is no part of the model, a goal say."""

    def close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
