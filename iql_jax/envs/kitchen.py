"""D4RL's kitchen: a Franka arm, four things to do, and one reward for each of them.

The simulation is gymnasium-robotics' FrankaKitchen, D4RL's kitchen ported to the current MuJoCo.
What differs from D4RL is restored: the observation's 60 numbers with the goal in them, observation
noise (ten times that of FrankaKitchen), and rewards computed from noisy observations. There are no
recorded steps of the genuine environment to hold the physics against.
"""

import functools
import xml.etree.ElementTree as ET
from typing import Any

import gymnasium
import mujoco
import numpy as np

from iql_jax.envs import physics
from iql_jax.envs.assets import robotics_asset
from iql_jax.envs.d4rl_names import datasets, max_episode_steps
from iql_jax.envs.mujoco_task import MujocoTask
from iql_jax.errors import InputError, did_you_mean

_FRAME_SKIP = 40
_ROBOT = slice(0, 9)  # of qpos: seven joints and two fingers; the rest are the kitchen's things
_NOISE = 0.1  # of each number's own amplitude
_MAX_SPEED = 2.0  # of a joint at action 1, in rad/s (fingers: m/s)
_CLOSE = 0.3  # how near to its goal a thing counts as done
_PREFIX = "kitchen-"

# Where each thing is in qpos, and where it should be.
_GOALS: dict[str, tuple[slice, tuple[float, ...]]] = {
    "bottom burner": (slice(11, 13), (-0.88, -0.01)),
    "light switch": (slice(17, 19), (-0.69, -0.05)),
    "slide cabinet": (slice(19, 20), (0.37,)),
    "microwave": (slice(22, 23), (-0.75,)),
    "kettle": (slice(23, 30), (-0.23, 0.75, 1.62, 0.99, 0.0, 0.0, -0.06)),
}
_FOUR_THINGS = ("microwave", "kettle", "light switch", "slide cabinet")
TASKS: dict[str, tuple[str, ...]] = {
    "complete": _FOUR_THINGS,
    "partial": _FOUR_THINGS,
    "mixed": ("microwave", "kettle", "bottom burner", "light switch"),
}
# fmt: off
_START = np.array([
    0.148388023, -1.76848573, 1.84390296, -2.4768576, 0.260252026, 0.712533105, 1.59515394,
    0.0479267505, 0.0371350919,
    -2.6627985e-4, -5.18043486e-5, 3.1287722e-5, -4.51199853e-5, -3.90842156e-6, -4.22629655e-5,
    6.28065475e-5, 4.04984708e-5, 4.62730939e-4, -2.26906415e-4, -4.65501369e-4, -6.44129196e-3,
    -1.77048263e-3, 1.08009684e-3,
    -0.26939744, 0.350383255, 1.61944683, 1.00618764, 4.0639512e-3, -6.62095997e-3, -2.68278933e-4,
])
# fmt: on


class KitchenEnv(MujocoTask):
    """Do four things in any order; reward 1 for each, the end with the last.

    Observations f64[60] are the robot's 9 and the things' 21 positions, with noise, and where they
    should be: 30 numbers, 0 where it does not matter. Actions are joint speeds. `info["success"]`
    tells whether all four are done, `info["num_done"]` how many.
    """

    def __init__(self, name: str, things: tuple[str, ...], render_mode: str | None = None):
        super().__init__(
            name,
            _model(),
            frame_skip=_FRAME_SKIP,
            observation_dim=60,
            max_episode_steps=max_episode_steps(name),
            render_mode=render_mode,
        )
        self.things = things
        self.open_things = set(things)
        self._low, self._high, amplitude = _limits()
        self._noise = _NOISE * amplitude
        self._goal = np.zeros(len(_START))
        for thing in things:
            where, goal = _GOALS[thing]
            self._goal[where] = goal
        self._seen = _START.copy()  # positions as last observed, which the robot steers by

    def _draw_start(self) -> tuple[np.ndarray, np.ndarray]:
        return _START, np.zeros(self.model.nv)

    def place(self, qpos: np.ndarray, qvel: np.ndarray) -> np.ndarray:
        self.open_things = set(self.things)
        return super().place(qpos, qvel)

    def _observation(self) -> np.ndarray:
        self._seen = self._qpos + self._noise * self.np_random.uniform(-1.0, 1.0, self.model.nq)
        return np.concatenate((self._seen, self._goal))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        observation, _ = super().reset(seed=seed, options=options)
        return observation, self._info()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._simulate(action)
        observation = self._observation()
        num_before = len(self.open_things)
        self.open_things -= {thing for thing in self.open_things if self._is_done(thing)}
        reward = float(num_before - len(self.open_things))
        return observation, reward, not self.open_things, self._out_of_time, self._info()

    def _is_done(self, thing: str) -> bool:
        where, goal = _GOALS[thing]
        return bool(np.linalg.norm(self._seen[where] - goal) < _CLOSE)

    def _info(self) -> dict[str, Any]:
        num_done = len(self.things) - len(self.open_things)
        return {"success": not self.open_things, "num_done": num_done}

    def _simulate(self, action: np.ndarray) -> np.ndarray:
        action = np.asarray(action)
        if action.shape != self._ctrl.shape:
            raise ValueError(f"action has shape {action.shape}, expected {self._ctrl.shape}")
        speed = _MAX_SPEED * np.clip(action, -1.0, 1.0)
        self._ctrl[:] = np.clip(self._seen[_ROBOT] + speed * self.dt, self._low, self._high)
        mujoco.mj_step(self.model, self.data, self._frame_skip)
        self.elapsed_steps += 1
        return self._ctrl

    def _task_state(self) -> dict[str, Any]:
        return {"open": sorted(self.open_things), "seen": self._seen.copy()}

    def _set_task_state(self, state: dict[str, Any]) -> None:
        self.open_things, self._seen = set(state["open"]), state["seen"].copy()

    def _camera(self) -> mujoco.MjvCamera:
        camera = mujoco.MjvCamera()
        camera.lookat[:] = -0.2, 0.5, 2.0
        camera.distance, camera.azimuth, camera.elevation = 2.2, 70.0, -35.0
        return camera


def d4rl_names() -> tuple[str, ...]:
    """Returns every D4RL name these environments evaluate."""
    return tuple(name for name in datasets() if name.startswith(_PREFIX))


def make_kitchen(name: str, render_mode: str | None = None) -> gymnasium.Env:
    """Returns the environment of a name such as `kitchen-mixed-v0`, bare or as `d4rl/...`.

    Raises:
      InputError: there is no such kitchen.
    """
    bare = name.removeprefix("d4rl/")
    if bare not in d4rl_names():
        raise InputError(f"no kitchen is called '{name}'{did_you_mean(bare, d4rl_names())}")
    return KitchenEnv(bare, TASKS[bare.split("-")[1]], render_mode)


@functools.cache
def _model() -> mujoco.MjModel:
    """Returns the compiled model, one for all kitchens."""
    physics.check_mujoco_version()
    path = robotics_asset("kitchen_franka", "kitchen_assets", "kitchen_env_model.xml")
    model = mujoco.MjModel.from_xml_path(str(path))
    # As MuJoCo 2.1.0 detected collisions; Adroit's recorded steps show that this is exact.
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_NATIVECCD)
    return model


@functools.cache
def _limits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the robot's lowest and highest positions f64[9], and noise amplitudes f64[30]."""
    root = ET.parse(
        robotics_asset("kitchen_franka", "franka_assets", "franka_config.xml")
    ).getroot()
    numbers = [root.find(f"qpos{i}") for i in range(len(_START))]
    attributes = [number.attrib for number in numbers if number is not None]
    bounds = np.array([line["pos_bound"].split() for line in attributes[_ROBOT]], np.float64)
    amplitude = np.array([line["pos_noise_amp"] for line in attributes], np.float64)
    return bounds[:, 0], bounds[:, 1], amplitude
