"""D4RL's Adroit: a hand that turns a pen, hammers a nail, opens a door, relocates a ball.

gymnasium-robotics has D4RL's models but other tasks: rewards with a sign changed, pens that may
fall, other time limits. Here these are D4RL's. So is the physics, contacts of the hand with the
table excepted: with MuJoCo 2.1.0's general collision detection, which is still to be had, recorded
steps agree to 1e-12 (pen) and 3e-9 (hammer); the functions for a box against a capsule or another
box are new, and steps in which the hand strikes the table differ by up to 8e-3.

The suffix of a name (-v0, -v1) versions the dataset; D4RL makes the same environments for both.
"""

import abc
import copy
import functools
import pathlib
import xml.etree.ElementTree as ET
from typing import Any

import mujoco
import numpy as np

from iql_jax.envs import physics
from iql_jax.envs.assets import robotics_asset
from iql_jax.envs.d4rl_names import datasets, max_episode_steps
from iql_jax.envs.mujoco_task import MujocoTask
from iql_jax.errors import InputError, did_you_mean

_FRAME_SKIP = 5
# The gains that D4RL gives the wrist's and the fingers' position servos, by first and last name.
_GAINS = (("A_WRJ1", "A_WRJ0", 10.0), ("A_FFJ3", "A_THJ0", 1.0))


class AdroitEnv(MujocoTask):
    """What the four tasks share: the hand, its servos, and a layout drawn at each reset.

    `info["success"]` tells in each step whether the task is done now. D4RL counts an episode as
    solved only where that lasts for 25 steps (20 for the pen); its score is of the return.

    Subclasses place what the episode is about by writing a layout, f64[L], into `model`, which is
    therefore each environment's own.
    """

    _object = "relocate"
    _observation_dim = 0

    def __init__(self, name: str, render_mode: str | None = None):
        model = copy.copy(_model(self._object, for_pictures=render_mode is not None))
        super().__init__(
            name,
            model,
            frame_skip=_FRAME_SKIP,
            observation_dim=self._observation_dim,
            max_episode_steps=max_episode_steps(name),
            render_mode=render_mode,
        )
        low, high = model.actuator_ctrlrange.T
        self._ctrl_center, self._ctrl_reach = (low + high) / 2, (high - low) / 2
        self._palm = self._site("S_grasp")

    def _site(self, name: str) -> np.ndarray:
        """Returns a view of a site's position, f64[3]."""
        return self.data.site(name).xpos

    @abc.abstractmethod
    def _draw_layout(self) -> np.ndarray:
        """Returns the layout of a new episode, drawn from `np_random`."""

    @abc.abstractmethod
    def arrange(self, layout: np.ndarray) -> None:
        """Places what `layout` tells about; takes effect in the next simulation step or `place`."""

    @abc.abstractmethod
    def _layout(self) -> np.ndarray:
        """Returns the layout as it is."""

    @abc.abstractmethod
    def _outcome(self) -> tuple[float, bool, bool]:
        """Returns (reward, whether the task is done, whether the episode has failed)."""

    def _draw_start(self) -> tuple[np.ndarray, np.ndarray]:
        self.arrange(self._draw_layout())
        return self.model.qpos0, np.zeros(self.model.nv)

    def _simulate(self, action: np.ndarray) -> np.ndarray:
        action = np.asarray(action)
        if action.shape != self._ctrl.shape:
            raise ValueError(f"action has shape {action.shape}, expected {self._ctrl.shape}")
        self._ctrl[:] = self._ctrl_center + np.clip(action, -1.0, 1.0) * self._ctrl_reach
        mujoco.mj_step(self.model, self.data, self._frame_skip)
        self.elapsed_steps += 1
        return self._ctrl

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._simulate(action)
        reward, success, failed = self._outcome()
        return self._observation(), reward, failed, self._out_of_time, {"success": success}

    def _task_state(self) -> np.ndarray:
        return self._layout()

    def _set_task_state(self, state: np.ndarray) -> None:
        self.arrange(state)


class PenEnv(AdroitEnv):
    """Turn a pen in the hand to the direction of another one; f64[45] observations.

    The layout is the target's orientation, a quaternion. Dropping the pen ends the episode.
    """

    _object, _observation_dim = "pen", 45

    def __init__(self, name: str, render_mode: str | None = None):
        super().__init__(name, render_mode)
        self._pen, self._place = self.data.body("Object").xpos, self._site("eps_ball")
        self._ends = [
            self._site(f"{body}_{end}")
            for body in ("object", "target")
            for end in ("top", "bottom")
        ]
        mujoco.mj_forward(self.model, self.data)
        top, bottom, target_top, target_bottom = self._ends
        self._length = np.linalg.norm(top - bottom)
        self._target_length = np.linalg.norm(target_top - target_bottom)

    def _draw_layout(self) -> np.ndarray:
        # About x, then about the turned y.
        x, y = self.np_random.uniform(-1.0, 1.0, 2) / 2
        cos_x, sin_x, cos_y, sin_y = np.cos(x), np.sin(x), np.cos(y), np.sin(y)
        return np.array([cos_x * cos_y, sin_x * cos_y, cos_x * sin_y, sin_x * sin_y])

    def arrange(self, layout: np.ndarray) -> None:
        self.model.body("target").quat[:] = layout

    def _layout(self) -> np.ndarray:
        return self.model.body("target").quat.copy()

    def _directions(self) -> tuple[np.ndarray, np.ndarray]:
        top, bottom, target_top, target_bottom = self._ends
        return (top - bottom) / self._length, (target_top - target_bottom) / self._target_length

    def _observation(self) -> np.ndarray:
        direction, wanted = self._directions()
        return np.concatenate(
            (
                self._qpos[:-6],
                self._pen,
                self._qvel[-6:],
                direction,
                wanted,
                self._pen - self._place,
                direction - wanted,
            )
        )

    def _outcome(self) -> tuple[float, bool, bool]:
        direction, wanted = self._directions()
        distance = float(np.linalg.norm(self._pen - self._place))
        similarity = float(direction.dot(wanted))
        is_near, is_dropped = distance < 0.075, bool(self._pen[2] < 0.075)
        reward = similarity - distance - 5.0 * is_dropped
        reward += 10.0 * (is_near and similarity > 0.9) + 50.0 * (is_near and similarity > 0.95)
        return reward, is_near and similarity > 0.95, is_dropped


class HammerEnv(AdroitEnv):
    """Drive a nail into a board with a hammer; f64[46] observations. The layout is its height."""

    _object, _observation_dim = "hammer", 46

    def __init__(self, name: str, render_mode: str | None = None):
        super().__init__(name, render_mode)
        hammer = self.data.body("Object")
        self._hammer, self._rotation = hammer.xpos, hammer.xmat
        self._head = self._site("tool")
        self._nail, self._goal = self._site("S_target"), self._site("nail_goal")

    def _draw_layout(self) -> np.ndarray:
        return self.np_random.uniform(0.1, 0.25, 1)

    def arrange(self, layout: np.ndarray) -> None:
        self.model.body("nail_board").pos[2:] = layout

    def _layout(self) -> np.ndarray:
        return self.model.body("nail_board").pos[2:].copy()

    def _observation(self) -> np.ndarray:
        return np.concatenate(
            (
                self._qpos[:-6],
                np.clip(self._qvel[-6:], -1.0, 1.0),
                self._palm,
                self._hammer,
                euler_angles(self._rotation.reshape(3, 3)),
                self._nail,
                np.clip(self.data.sensordata[:1], -1.0, 1.0),
            )
        )

    def _outcome(self) -> tuple[float, bool, bool]:
        depth = float(np.linalg.norm(self._nail - self._goal))
        reward = -0.1 * float(np.linalg.norm(self._palm - self._hammer))
        reward -= float(np.linalg.norm(self._head - self._nail)) + 10.0 * depth
        reward -= 1e-2 * float(np.linalg.norm(self._qvel))
        reward += 2.0 * bool(self._hammer[2] > 0.04 and self._head[2] > 0.04)
        reward += 25.0 * (depth < 0.02) + 75.0 * (depth < 0.01)
        return reward, depth < 0.01, False


class DoorEnv(AdroitEnv):
    """Unlatch a door and open it; f64[39] observations. The layout is (x, y, z) of its frame."""

    _object, _observation_dim = "door", 39

    def __init__(self, name: str, render_mode: str | None = None):
        super().__init__(name, render_mode)
        self._handle = self._site("S_handle")
        # qpos in its last two places: hinge, latch
        assert self.model.joint("door_hinge").qposadr[0] == self.model.nq - 2

    def _draw_layout(self) -> np.ndarray:
        return self.np_random.uniform((-0.3, 0.25, 0.252), (-0.2, 0.35, 0.35))

    def arrange(self, layout: np.ndarray) -> None:
        self.model.body("frame").pos[:] = layout

    def _layout(self) -> np.ndarray:
        return self.model.body("frame").pos.copy()

    def _observation(self) -> np.ndarray:
        hinge, latch = self._qpos[-2:]
        return np.concatenate(
            (
                self._qpos[1:-2],
                (latch, hinge),
                self._palm,
                self._handle,
                self._palm - self._handle,
                (1.0 if hinge > 1.0 else -1.0,),
            )
        )

    def _outcome(self) -> tuple[float, bool, bool]:
        hinge = float(self._qpos[-2])
        reward = -0.1 * float(np.linalg.norm(self._palm - self._handle))
        reward -= 0.1 * (hinge - 1.57) ** 2 + 1e-5 * float(self._qvel.dot(self._qvel))
        reward += 2.0 * (hinge > 0.2) + 8.0 * (hinge > 1.0) + 10.0 * (hinge > 1.35)
        return reward, hinge >= 1.35, False


class RelocateEnv(AdroitEnv):
    """Pick up a ball and bring it to a point in the air; f64[39] observations.

    The layout is (x, y) of the ball and (x, y, z) of the point.
    """

    _object, _observation_dim = "relocate", 39

    def __init__(self, name: str, render_mode: str | None = None):
        super().__init__(name, render_mode)
        self._ball, self._target = self.data.body("Object").xpos, self._site("target")

    def _draw_layout(self) -> np.ndarray:
        return self.np_random.uniform((-0.15, -0.15, -0.2, -0.2, 0.15), (0.15, 0.3, 0.2, 0.2, 0.35))

    def arrange(self, layout: np.ndarray) -> None:
        self.model.body("Object").pos[:2] = layout[:2]
        self.model.site("target").pos[:] = layout[2:]

    def _layout(self) -> np.ndarray:
        return np.concatenate((self.model.body("Object").pos[:2], self.model.site("target").pos))

    def _observation(self) -> np.ndarray:
        palm, ball, target = self._palm, self._ball, self._target
        return np.concatenate((self._qpos[:-6], palm - ball, palm - target, ball - target))

    def _outcome(self) -> tuple[float, bool, bool]:
        palm, ball, target = self._palm, self._ball, self._target
        distance = float(np.linalg.norm(ball - target))
        reward = -0.1 * float(np.linalg.norm(palm - ball))
        if ball[2] > 0.04:
            reward += 1.0 - 0.5 * float(np.linalg.norm(palm - target)) - 0.5 * distance
        reward += 10.0 * (distance < 0.1) + 20.0 * (distance < 0.05)
        return reward, distance < 0.1, False


TASKS: dict[str, type[AdroitEnv]] = {
    "pen": PenEnv,
    "hammer": HammerEnv,
    "door": DoorEnv,
    "relocate": RelocateEnv,
}


def d4rl_names() -> tuple[str, ...]:
    """Returns every D4RL name these environments evaluate."""
    return tuple(name for name in datasets() if name.split("-")[0] in TASKS)


def make_adroit(name: str, render_mode: str | None = None) -> AdroitEnv:
    """Returns the environment of a name such as `pen-human-v1`, bare or as `d4rl/...`.

    Raises:
      InputError: there is no such Adroit task.
    """
    bare = name.removeprefix("d4rl/")
    if bare not in d4rl_names():
        raise InputError(f"no Adroit task is called '{name}'{did_you_mean(bare, d4rl_names())}")
    return TASKS[bare.split("-")[0]](bare, render_mode)


def euler_angles(rotation: np.ndarray) -> np.ndarray:
    """Returns f64[3], the angles about x, y and z that D4RL observes of a rotation f64[3, 3]."""
    cos_y = float(np.hypot(rotation[2, 2], rotation[1, 2]))
    y = np.arctan2(rotation[0, 2], cos_y)
    if cos_y > 4.0 * np.finfo(np.float64).eps:
        x = -np.arctan2(rotation[1, 2], rotation[2, 2])
        return np.array((x, y, -np.arctan2(rotation[0, 1], rotation[0, 0])))
    # Straight up or down x and z turn about the same axis; the whole turn is z's.
    return np.array((0.0, y, np.arctan2(rotation[1, 0], rotation[1, 1])))


@functools.cache
def _model(task: str, for_pictures: bool) -> mujoco.MjModel:
    """Returns the compiled model, to be copied; without what is only seen, unless for pictures.

    Copies are cheap that way, 0.1 MB instead of 8, and step the same to the last bit.
    """
    physics.check_mujoco_version()
    path = robotics_asset("adroit_hand", f"adroit_{task}.xml")
    if for_pictures:
        model = mujoco.MjModel.from_xml_path(str(path))
    else:
        model = mujoco.MjModel.from_xml_string(_bare_xml(path))
    # MuJoCo 2.1.0's general collision detection, that of libccd, instead of today's own.
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_NATIVECCD)
    for first, last, gain in _GAINS:
        servos = slice(model.actuator(first).id, model.actuator(last).id + 1)
        model.actuator_gainprm[servos, :3] = gain, 0.0, 0.0
        model.actuator_biasprm[servos, :3] = 0.0, -gain, 0.0
    return model


def _bare_xml(path: pathlib.Path) -> str:
    """Returns a model's XML without meshes, which only draw the hand, and without materials."""
    root = ET.parse(path).getroot()
    _include(root, path.parent)
    for parent in list(root.iter()):
        parent.attrib.pop("material", None)
        for child in list(parent):
            if child.tag == "asset" or (child.tag == "geom" and "mesh" in child.attrib):
                parent.remove(child)
    return ET.tostring(root, encoding="unicode")


def _include(element: ET.Element, folder: pathlib.Path) -> None:
    """Puts the content of included files in the place of their includes."""
    for index, child in reversed(list(enumerate(element))):
        if child.tag == "include":
            child = ET.parse(folder / child.attrib["file"]).getroot()
            element[index : index + 1] = list(child)
        _include(child, folder)
