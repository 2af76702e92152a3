"""D4RL's physics on the current MuJoCo: the masses of MuJoCo 2.1.0, and exact simulator state.

D4RL's data and reference returns come from MuJoCo 2.1.0, which gave capsules another volume and so
every body another mass and inertia. Writing the old constants into a compiled model makes one step
agree with the genuine environment to about 1e-6; without them it is off by 0.05 to 2.8.
"""

import functools
import importlib.resources
import json

import mujoco
import numpy as np

from iql_jax.errors import InputError

# The models whose constants are recorded, under the D4RL name they were read from.
_RECORDED_FROM = {
    "hopper": "hopper-medium-v2",
    "halfcheetah": "halfcheetah-medium-v2",
    "walker2d": "walker2d-medium-v2",
    "ant": "ant-medium-v2",
    "antmaze": "antmaze-large-play-v2",
}
_FIELDS = ("body_mass", "body_inertia", "body_ipos", "body_iquat")
# From 3.5 contact margins are summed instead of maxed, which changes every contact.
_FIRST_VERSION, _VERSION_BEYOND = (3, 3), (3, 5)


@functools.cache
def _recorded() -> dict[str, dict[str, list]]:
    """The recorded constants by D4RL name."""
    folder = importlib.resources.files("iql_jax.envs")
    return json.loads(folder.joinpath("d4rl_mujoco210_inertia.json").read_text())


def check_mujoco_version(version: str = mujoco.__version__) -> None:
    """Returns nothing if this MuJoCo reproduces D4RL's physics.

    Raises:
      InputError: it does not.
    """
    major, minor = (int(part) for part in version.split(".")[:2])
    if not _FIRST_VERSION <= (major, minor) < _VERSION_BEYOND:
        raise InputError(
            f"MuJoCo {version} does not reproduce D4RL's physics (contacts differ); "
            'versions 3.3 and 3.4 do: pip install "mujoco>=3.3,<3.5"'
        )


def restore_mujoco210(model: mujoco.MjModel, name: str) -> None:
    """Writes MuJoCo 2.1.0's masses and inertias into `model`, with all that derives from them.

    Call it once after compiling, before any MjData of the model is stepped; data made earlier stay
    valid after `mj_resetData`.

    Args:
      model: a compiled model of the body; walls and other geometry of the world do not matter.
      name: one of hopper, halfcheetah, walker2d, ant, antmaze.

    Raises:
      InputError: `name` is none of these, the model has other bodies, or the installed MuJoCo
        does not reproduce D4RL's physics.
    """
    check_mujoco_version()
    if name not in _RECORDED_FROM:
        raise InputError(
            f"no MuJoCo 2.1.0 constants are recorded for {name!r}; "
            f"known: {', '.join(_RECORDED_FROM)}"
        )
    constants = _recorded()[_RECORDED_FROM[name]]
    num_bodies = len(constants["body_mass"])
    if model.nbody != num_bodies:
        raise InputError(
            f"the model has {model.nbody} bodies, but {name}'s recorded constants are for "
            f"{num_bodies}; add walls as geoms of the world, not as bodies"
        )
    for field in _FIELDS:
        getattr(model, field)[:] = constants[field]
    # Recomputes subtree masses, inverse weights and mean inertia, at the initial configuration of
    # a scratch simulation, so that no simulation in use is disturbed.
    mujoco.mj_setConst(model, mujoco.MjData(model))


def get_integration_state(model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    """Returns f64[S]: everything the next `mj_step` depends on, the solver's warm start included.

    What is derived from it (body positions, contacts) is not part of it: after a step those are
    those of the last substep's beginning, so a task that reads them keeps them itself.
    """
    state = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION))
    mujoco.mj_getState(model, data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
    return state


def set_integration_state(model: mujoco.MjModel, data: mujoco.MjData, state: np.ndarray) -> None:
    """Continues `data` from what `get_integration_state` returned, bit for bit.

    Does not run `mj_forward`, which would replace the warm start.
    """
    mujoco.mj_setState(model, data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
