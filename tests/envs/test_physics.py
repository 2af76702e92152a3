"""MuJoCo 2.1.0's constants reach the model, and integration state is exact."""

import importlib.resources
import json

import mujoco
import numpy as np
import pytest

from iql_jax.envs import physics
from iql_jax.errors import InputError


def hopper_model() -> mujoco.MjModel:
    assets = importlib.resources.files("gymnasium.envs.mujoco").joinpath("assets")
    return mujoco.MjModel.from_xml_path(str(assets.joinpath("hopper.xml")))


def test_masses_of_2_1_0_replace_those_of_the_current_package():
    model = hopper_model()
    # Hopper's torso is a capsule of radius 0.05, 0.4 long, density 1000. The current package weighs
    # its two ends as the sphere they make, 2.1.0 as three quarters of it.
    cylinder, sphere = np.pi * 0.05**2 * 0.4 * 1000, 4 / 3 * np.pi * 0.05**3 * 1000
    np.testing.assert_allclose(model.body_mass[1], cylinder + sphere)
    physics.restore_mujoco210(model, "hopper")
    np.testing.assert_allclose(model.body_mass[1], cylinder + 0.75 * sphere)
    np.testing.assert_allclose(model.body_inertia[1], [0.0618501054, 0.0618501054, 0.0044178647])


def test_derived_constants_follow_the_masses():
    model = hopper_model()
    before = model.body_invweight0.copy(), model.dof_M0.copy(), model.stat.meaninertia
    physics.restore_mujoco210(model, "hopper")
    np.testing.assert_allclose(model.body_subtreemass[1], model.body_mass[1:].sum())
    assert (model.body_invweight0[1:] != before[0][1:]).any(axis=1).all()
    np.testing.assert_allclose(model.dof_M0[:2], model.body_mass[1:].sum() + model.dof_armature[:2])
    assert model.stat.meaninertia != before[2]


def test_restoring_leaves_a_fresh_simulation_at_the_initial_configuration():
    model = hopper_model()
    physics.restore_mujoco210(model, "hopper")
    np.testing.assert_array_equal(mujoco.MjData(model).qpos, [0, 1.25, 0, 0, 0, 0])


@pytest.mark.parametrize("name", ["hopper", "halfcheetah", "walker2d", "ant", "antmaze"])
def test_every_body_has_its_constants(name):
    folder = importlib.resources.files("iql_jax.envs")
    recorded = json.loads(folder.joinpath("d4rl_mujoco210_inertia.json").read_text())
    key = next(key for key in recorded if key.split("-")[0] == name)
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody>"
        + "<body><freejoint/><geom size='1'/></body>" * (len(recorded[key]["body_mass"]) - 1)
        + "</worldbody></mujoco>"
    )
    physics.restore_mujoco210(model, name)
    np.testing.assert_array_equal(model.body_mass, recorded[key]["body_mass"])
    np.testing.assert_array_equal(model.body_iquat, recorded[key]["body_iquat"])


def test_unknown_body_is_named_with_what_is_known():
    with pytest.raises(InputError, match=r"'humanoid'; known: hopper, .*antmaze"):
        physics.restore_mujoco210(hopper_model(), "humanoid")


def test_a_model_with_other_bodies_is_refused():
    with pytest.raises(InputError, match=r"model has 5 bodies, but ant's .* are for 14"):
        physics.restore_mujoco210(hopper_model(), "ant")


@pytest.mark.parametrize("version", ["2.3.7", "3.2.9", "3.5.0", "3.10.0", "4.0.0"])
def test_versions_with_other_physics_are_refused(version):
    with pytest.raises(InputError, match=rf"MuJoCo {version} does not .*mujoco>=3.3,<3.5"):
        physics.check_mujoco_version(version)


@pytest.mark.parametrize("version", ["3.3.0", "3.3.7", "3.4.0", "3.4.1"])
def test_versions_that_reproduce_d4rl_pass(version):
    physics.check_mujoco_version(version)


def test_integration_state_continues_bit_for_bit():
    model = hopper_model()
    data, other = mujoco.MjData(model), mujoco.MjData(model)
    data.ctrl[:] = [0.3, -0.7, 0.9]
    mujoco.mj_step(model, data, 200)  # fallen: contacts, so that the warm start matters
    state = physics.get_integration_state(model, data)
    mujoco.mj_step(model, data, 200)
    physics.set_integration_state(model, other, state)
    mujoco.mj_step(model, other, 200)
    np.testing.assert_array_equal(other.qpos, data.qpos)
    np.testing.assert_array_equal(other.qvel, data.qvel)
    assert other.time == data.time
