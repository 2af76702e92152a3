"""Adroit is D4RL's: recorded steps, human demonstrations replayed, and each task's rules."""

import pickle

import mujoco
import numpy as np
import pytest

from iql_jax import envs
from iql_jax.envs import adroit
from iql_jax.envs.lockstep import Lockstep
from iql_jax.errors import InputError

TASKS = tuple(adroit.TASKS)
DIMS = {"pen": (45, 24), "hammer": (46, 26), "door": (39, 28), "relocate": (39, 30)}
# The largest deviation of an observation, and how many of 150 steps deviate by more than 1e-6:
# those in which the hand strikes the table.
AGREEMENT = {"pen": (1e-12, 0), "hammer": (1e-8, 0), "door": (1e-2, 23), "relocate": (1e-3, 3)}


def golden(shared, task):
    with np.load(shared / "golden" / "d4rl_env_steps.npz") as file:
        prefix = f"{task}-human-v1|"
        return {key.removeprefix(prefix): file[key] for key in file if key.startswith(prefix)}


def make(task, seed=0):
    env = envs.make(f"{task}-human-v1")
    env.reset(seed=seed)
    return env


def arrange_as(env, observation):
    """Arranges what is seen in an observation of the state that `env` is in."""
    layout = env.get_state()["task"]
    if isinstance(env, adroit.PenEnv):
        direction = observation[36:39]
        x, y = np.arctan2(-direction[1], direction[2]) / 2, np.arcsin(direction[0]) / 2
        layout = np.outer((np.cos(y), np.sin(y)), (np.cos(x), np.sin(x))).ravel()
    elif isinstance(env, adroit.HammerEnv):
        layout += observation[44] - env.data.site("S_target").xpos[2]
    elif isinstance(env, adroit.DoorEnv):
        layout += observation[32:35] - env.data.site("S_handle").xpos
    else:
        palm = env.data.site("S_grasp").xpos
        layout[:2] += (palm - observation[30:33] - env.data.body("Object").xpos)[:2]
        layout[2:] = palm - observation[33:36]
    env.arrange(layout)


@pytest.mark.parametrize("task", TASKS)
def test_each_recorded_step_is_reproduced_from_its_state(shared, task):
    recorded, env = golden(shared, task), make(task)
    assert env.max_episode_steps == recorded["max_episode_steps"]
    num_steps = len(recorded["act"]) // len(recorded["obs0"])
    errors, reward_errors = [], []
    for i, action in enumerate(recorded["act"]):
        state = recorded["qpos"][i], recorded["qvel"][i]
        if i % num_steps == 0:
            first = recorded["obs0"][i // num_steps]
            env.place(*state)
            arrange_as(env, first)
            np.testing.assert_allclose(env.place(*state), first, atol=1e-12)
        env.place(*state)
        observation, reward, terminated, _, _ = env.step(action)
        errors.append(np.abs(observation - recorded["obs"][i]).max())
        reward_errors.append(abs(reward - recorded["rew"][i]))
        assert terminated == recorded["done"][i]
    print(f"{task}: largest deviation {max(errors):.1e} obs, {max(reward_errors):.1e} reward")
    largest, num_deviating = AGREEMENT[task]
    assert max(errors) < largest
    assert sum(error > 1e-6 for error in errors) <= num_deviating
    assert max(reward_errors) < 2e-4
    assert np.median(reward_errors) < 1e-11


def test_human_demonstrations_replayed_open_the_door_as_they_did(shared):
    """Open loop for 250 steps, from a start in which the arm's height is not recorded."""
    import h5py

    with h5py.File(shared / "data" / "door_human.hdf5") as file:
        arrays = {key: file[key][()] for key in ("observations", "actions", "rewards")}
        last = np.flatnonzero(file["timeouts"][()] | file["terminals"][()])
    env = make("door")
    start = env.model.qpos0, np.zeros(env.model.nv)
    returns = []
    for i in (11, 16, 22, 24):
        rows = slice(last[i - 1] + 1, last[i] + 1)
        env.place(*start)
        arrange_as(env, arrays["observations"][rows][0])
        env.place(*start)
        steps = [env.step(action) for action in arrays["actions"][rows]]
        assert any(info["success"] for *_, info in steps)
        returns.append((sum(reward for _, reward, *_ in steps), arrays["rewards"][rows].sum()))
    np.testing.assert_allclose(*np.transpose(returns), rtol=3e-3)


@pytest.mark.parametrize("task", TASKS)
def test_resets_draw_layouts_in_d4rls_ranges(task):
    env = make(task)
    assert env.observation_space.shape + env.action_space.shape == DIMS[task]
    layouts = []
    for seed in range(200):
        observation, _ = env.reset(seed=seed)
        assert observation.shape == env.observation_space.shape
        layouts.append(env.get_state()["task"])
    low, high = np.min(layouts, axis=0), np.max(layouts, axis=0)
    expected = {
        "hammer": ([0.1], [0.25]),
        "door": ([-0.3, 0.25, 0.252], [-0.2, 0.35, 0.35]),
        "relocate": ([-0.15, -0.15, -0.2, -0.2, 0.15], [0.15, 0.3, 0.2, 0.2, 0.35]),
    }
    if task == "pen":  # angles up to 1 rad about two axes
        np.testing.assert_allclose(np.linalg.norm(layouts, axis=1), 1.0)
        assert 0.44 < high[1] <= np.sin(0.5) and -np.sin(0.5) <= low[2] < -0.44
    else:
        spread = np.subtract(*expected[task][::-1])
        assert (low >= expected[task][0]).all() and (low < expected[task][0] + 0.05 * spread).all()
        assert (high <= expected[task][1]).all()
        assert (high > expected[task][1] - 0.05 * spread).all()


def test_a_dropped_pen_ends_the_episode():
    env = make("pen")
    qpos = env.model.qpos0.copy()
    # 0.25 - 0.075 lower is where D4RL calls it dropped; its slides move along the turned body.
    env.place(qpos, np.zeros(env.model.nv))
    before = env.data.body("Object").xpos.copy()
    for i in range(3):
        qpos[-6 + i] = 1.0
        env.place(qpos, np.zeros(env.model.nv))
        if abs(env.data.body("Object").xpos[2] - before[2]) > 0.9:
            break
        qpos[-6 + i] = 0.0
    sign = -np.sign(env.data.body("Object").xpos[2] - before[2])
    for drop, ends in ((0.1, False), (0.19, True)):
        qpos[-6 + i] = sign * drop
        env.place(qpos, np.zeros(env.model.nv))
        _, reward, terminated, truncated, info = env.step(np.zeros(24))
        assert terminated == ends and not truncated and not info["success"]
        assert (reward < -4) == ends


def test_a_pen_that_lies_right_is_success():
    env = make("pen")
    env.place(env.model.qpos0, np.zeros(env.model.nv))
    top, bottom = (env.data.site(f"object_{end}").xpos for end in ("top", "bottom"))
    direction = (top - bottom) / np.linalg.norm(top - bottom)
    observation = np.zeros(45)
    observation[36:39] = direction
    arrange_as(env, observation)
    env.place(env.model.qpos0, np.zeros(env.model.nv))
    _, reward, terminated, _, info = env.step(np.zeros(24))
    assert info["success"] and not terminated
    assert 60 < reward < 61


def test_an_open_door_is_success():
    env = make("door")
    qpos = env.model.qpos0.copy()
    qpos[-2] = 1.5
    env.place(qpos, np.zeros(env.model.nv))
    observation, reward, _, _, info = env.step(np.zeros(28))
    assert info["success"] and observation[-1] == 1.0
    assert 19 < reward < 20


def test_a_driven_nail_is_success():
    env = make("hammer")
    qpos = env.model.qpos0.copy()
    address = env.model.joint("nail_dir").qposadr[0]
    qpos[address] = 0.09
    env.place(qpos, np.zeros(env.model.nv))
    _, reward, _, _, info = env.step(np.zeros(26))
    assert info["success"] and reward > 95


def test_a_ball_at_the_target_is_success():
    env = make("relocate")
    env.arrange(np.array([0.0, 0.0, 0.0, 0.0, 0.2]))
    qpos = env.model.qpos0.copy()
    qpos[env.model.joint("OBJTz").qposadr[0]] = 0.165
    env.place(qpos, np.zeros(env.model.nv))
    _, reward, _, _, info = env.step(np.zeros(30))
    assert info["success"] and 30 < reward < 31.1


@pytest.mark.parametrize("task", TASKS)
def test_a_pickled_state_continues_bit_for_bit(task):
    env, other = make(task), make(task, seed=1)
    actions = np.random.default_rng(0).uniform(-1, 1, (30, env.model.nu))
    for action in actions[:10]:
        env.step(action)
    state = pickle.loads(pickle.dumps(env.get_state()))

    def run(env):
        steps = [env.step(action)[:4] for action in actions[10:]]
        observations, *rest = zip(*steps, strict=True)
        return np.array(observations), *rest, env.reset()[0]

    expected = run(env)
    for continued in (env, other):
        continued.set_state(state)
        for array, wanted in zip(run(continued), expected, strict=True):
            np.testing.assert_array_equal(array, wanted)


def test_environments_of_a_task_do_not_share_their_layout():
    def play(env):
        env.reset(seed=5)
        return [env.step(np.full(28, 0.3))[0] for _ in range(20)]

    alone = play(envs.make("door-human-v1"))
    lockstep = Lockstep(lambda: envs.make("door-human-v1"), 3, num_threads=3)
    lockstep.reset([4, 5, 6])
    together = [lockstep.step(np.full((3, 28), 0.3)).observations[1] for _ in range(20)]
    lockstep.close()
    np.testing.assert_array_equal(np.float32(alone), together)


@pytest.mark.parametrize("task", TASKS)
def test_leaving_out_what_is_only_seen_changes_no_step(task):
    bare, full = (adroit._model(task, for_pictures=seen) for seen in (False, True))
    assert bare.ngeom < full.ngeom and bare.nbuffer < full.nbuffer / 50
    for field in ("body_mass", "body_inertia", "body_invweight0", "dof_invweight0"):
        np.testing.assert_array_equal(getattr(bare, field), getattr(full, field))
    rng = np.random.default_rng(1)
    data = [mujoco.MjData(model) for model in (bare, full)]
    for _ in range(40):
        controls = rng.uniform(*bare.actuator_ctrlrange.T)
        for model, one in zip((bare, full), data, strict=True):
            one.ctrl[:] = controls
            mujoco.mj_step(model, one, 5)
        np.testing.assert_array_equal(data[0].qpos, data[1].qpos)


@pytest.mark.parametrize("axis", range(3))
def test_euler_angles_turn_back(axis):
    for angle in (-1.2, 0.3, 1.0):
        quaternion = np.zeros(4)
        mujoco.mju_axisAngle2Quat(quaternion, np.eye(3)[axis], angle)
        matrix = np.zeros(9)
        mujoco.mju_quat2Mat(matrix, quaternion)
        angles = adroit.euler_angles(matrix.reshape(3, 3))
        np.testing.assert_allclose(angles, angle * np.eye(3)[axis], atol=1e-12)


def test_a_picture_shows_the_hand():
    env = envs.make("pen-human-v1", render_mode="rgb_array")
    env.reset(seed=0)
    picture = env.render()
    env.close()
    assert picture.shape == (480, 480, 3) and picture.std() > 10


def test_an_unknown_name_is_told_the_nearest():
    with pytest.raises(InputError, match="did you mean 'pen-human-v1'"):
        adroit.make_adroit("pen-humans-v1")


def test_an_action_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match=r"shape \(1,\), expected \(24,\)"):
        make("pen").step(np.zeros(1))
