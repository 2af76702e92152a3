"""hopper, halfcheetah, walker2d and ant are D4RL's, step for step."""

import pickle

import numpy as np
import pytest

from iql_jax import envs
from iql_jax.envs import locomotion

BODIES = ("hopper", "halfcheetah", "walker2d", "ant")


def golden(shared, body):
    with np.load(shared / "golden" / "d4rl_env_steps.npz") as file:
        prefix = f"{body}-medium-v2|"
        return {key.removeprefix(prefix): file[key] for key in file if key.startswith(prefix)}


def make(body):
    env = envs.make(f"{body}-medium-v2")
    env.reset(seed=0)
    return env


@pytest.mark.parametrize("body", BODIES)
def test_each_recorded_step_is_reproduced_from_its_state(shared, body):
    recorded, env = golden(shared, body), make(body)
    observation_error = reward_error = 0.0
    for i, action in enumerate(recorded["act"]):
        env.place(recorded["qpos"][i], recorded["qvel"][i])
        observation, reward, terminated, truncated, _ = env.step(action)
        observation_error = max(observation_error, np.abs(observation - recorded["obs"][i]).max())
        reward_error = max(reward_error, abs(reward - recorded["rew"][i]))
        assert terminated == recorded["done"][i]
        assert not truncated
    print(f"{body}: largest deviation {observation_error:.1e} obs, {reward_error:.1e} reward")
    assert observation_error < 1e-5
    if body != "ant":  # whose reward needs the step before, see below
        assert reward_error < 1e-5


def test_ant_rollouts_continue_as_recorded(shared):
    recorded, env = golden(shared, "ant"), make("ant")
    num_steps = len(recorded["act"]) // len(recorded["obs0"])
    assert num_steps == 30
    errors = np.zeros((len(recorded["act"]), 2))
    for i, action in enumerate(recorded["act"]):
        if i % num_steps == 0:
            env.place(recorded["qpos"][i], recorded["qvel"][i])
        observation, reward, terminated, _, _ = env.step(action)
        errors[i] = np.abs(observation - recorded["obs"][i]).max(), abs(reward - recorded["rew"][i])
        assert terminated == recorded["done"][i]
    print(f"ant: largest deviation in 30 steps {errors.max(axis=0)} (observation, reward)")
    assert errors.max() < 1e-4


@pytest.mark.parametrize("body", BODIES)
def test_an_observation_of_a_recorded_start_is_the_recorded_one(shared, body):
    recorded, env = golden(shared, body), make(body)
    assert recorded["max_episode_steps"] == env.max_episode_steps == 1000
    observation = env.place(recorded["qpos"][0], recorded["qvel"][0])
    np.testing.assert_allclose(observation, recorded["obs0"][0], atol=1e-12)


@pytest.mark.parametrize("body", BODIES)
def test_gymnasiums_own_task_differs_only_by_the_masses(body, monkeypatch):
    """Without the old masses, steps and rewards are those of Gymnasium's v4 classes exactly."""
    from gymnasium.envs.mujoco.ant_v4 import AntEnv
    from gymnasium.envs.mujoco.half_cheetah_v4 import HalfCheetahEnv
    from gymnasium.envs.mujoco.hopper_v4 import HopperEnv
    from gymnasium.envs.mujoco.walker2d_v4 import Walker2dEnv

    theirs = {
        "hopper": HopperEnv,
        "halfcheetah": HalfCheetahEnv,
        "walker2d": Walker2dEnv,
        "ant": AntEnv,
    }[body]()
    monkeypatch.setattr(locomotion, "restore_mujoco210", lambda model, name: None)
    monkeypatch.setattr(locomotion, "_model", locomotion._model.__wrapped__)
    ours = locomotion.Locomotion("test", body)
    rng = np.random.default_rng(0)
    theirs.reset(seed=1)
    ours.reset(seed=1)
    ours.place(theirs.data.qpos, theirs.data.qvel)
    theirs.set_state(ours.data.qpos.copy(), ours.data.qvel.copy())
    for _ in range(60):
        action = rng.uniform(-1, 1, theirs.model.nu).astype(np.float32)
        expected, expected_reward, expected_terminated, _, _ = theirs.step(action)
        observation, reward, terminated, _, _ = ours.step(action)
        np.testing.assert_array_equal(observation[: len(expected)], expected)
        assert reward == pytest.approx(expected_reward, abs=1e-6)
        assert terminated == expected_terminated
    assert not np.any(observation[len(expected) :])


@pytest.mark.parametrize(
    ("body", "dim", "noise", "normal"),
    [
        ("hopper", 11, 5e-3, False),
        ("halfcheetah", 17, 0.1, True),
        ("walker2d", 17, 5e-3, False),
        ("ant", 111, 0.1, True),
    ],
)
def test_starts_are_drawn_as_d4rl_draws_them(body, dim, noise, normal):
    env = envs.make(f"{body}-random-v2")
    starts = []
    for seed in range(200):
        observation, _ = env.reset(seed=seed)
        assert observation.shape == env.observation_space.shape == (dim,)
        starts.append(np.concatenate((env.data.qpos - env.model.qpos0, env.data.qvel)))
    starts = np.array(starts)
    position = starts[:, 1] if body != "ant" else starts[:, 2]  # z in both
    assert noise * 0.95 < np.abs(position).max() <= noise
    velocity = starts[:, env.model.nq :]
    expected_std = noise if normal else noise / np.sqrt(3)
    np.testing.assert_allclose(velocity.std(), expected_std, rtol=0.05)
    assert (np.abs(velocity).max() > noise) == normal


def test_ant_starts_with_a_normalised_orientation():
    env = make("ant")
    np.testing.assert_allclose(np.linalg.norm(env.data.qpos[3:7]), 1.0)


@pytest.mark.parametrize("body", BODIES)
def test_the_same_seed_gives_the_same_episode(body):
    def episode(seed):
        env = envs.make(f"{body}-medium-v2")
        observations = [env.reset(seed=seed)[0]]
        observations += [env.step(np.full(env.model.nu, 0.4))[0] for _ in range(20)]
        return np.array(observations)

    np.testing.assert_array_equal(episode(3), episode(3))
    assert (episode(3)[0] != episode(4)[0]).any()


@pytest.mark.parametrize("body", BODIES)
def test_a_pickled_state_continues_bit_for_bit(body):
    env, other = make(body), make(body)
    actions = np.random.default_rng(0).uniform(-1, 1, (100, env.model.nu))
    for action in actions[:50]:
        env.step(action)
    state = pickle.loads(pickle.dumps(env.get_state()))

    def run(env):
        steps = [env.step(action)[:4] for action in actions[50:]]
        observations, rewards, terminated, truncated = zip(*steps, strict=True)
        return np.array(observations), rewards, terminated, truncated, env.reset()[0]

    expected = run(env)
    for continued in (env, other):  # in place and in an environment that was elsewhere
        continued.set_state(state)
        for array, wanted in zip(run(continued), expected, strict=True):
            np.testing.assert_array_equal(array, wanted)


def test_the_episode_is_cut_at_a_thousand_steps():
    env = make("halfcheetah")
    truncated = [env.step(np.zeros(6))[3] for _ in range(1000)]
    assert truncated == [False] * 999 + [True]
    env.reset()
    assert env.elapsed_steps == 0


def test_actions_beyond_the_bounds_count_as_the_bounds():
    env = make("halfcheetah")
    beyond = env.step(np.full(6, 3.0))[:2]
    env.reset(seed=0)
    bound = env.step(np.ones(6))[:2]
    np.testing.assert_array_equal(beyond[0], bound[0])
    assert beyond[1] == bound[1]


def test_an_action_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match=r"shape \(1,\), expected \(3,\)"):
        make("hopper").step(np.zeros(1))


def test_environments_of_a_task_share_the_model_but_no_state():
    first, second = make("hopper"), make("hopper")
    assert first.model is second.model
    before = second.data.qpos.copy()
    first.step(np.ones(3))
    np.testing.assert_array_equal(second.data.qpos, before)


@pytest.mark.parametrize("body", ["hopper", "walker2d"])
def test_fast_velocities_are_observed_clipped(body):
    env = make(body)
    qvel = np.zeros(env.model.nv)
    qvel[0], qvel[-1] = 50.0, -50.0
    observation = env.place(env.model.qpos0, qvel)
    assert observation.max() == 10.0
    assert observation.min() == -10.0


@pytest.mark.parametrize(
    ("body", "index", "value"),
    [
        ("hopper", 1, 0.69),
        ("hopper", 2, 0.21),
        ("hopper", 4, 101.0),
        ("hopper", 3, np.nan),
        ("walker2d", 1, 2.01),
        ("walker2d", 2, -1.01),
        ("walker2d", 1, np.nan),
        ("ant", 2, 1.01),
        ("ant", 2, 0.19),
        ("ant", 9, np.inf),
    ],
)
def test_unhealthy_states_end_the_episode(body, index, value):
    env = make(body)
    healthy = locomotion.TASKS[body].healthy
    assert healthy(env.model.qpos0, np.zeros(env.model.nv))
    qpos = env.model.qpos0.copy()
    qpos[index] = value
    assert not healthy(qpos, np.zeros(env.model.nv))


def test_hopper_may_be_fast_up_to_a_hundred():
    qpos = np.array([0, 1.25, 0, 0, 0, 0])
    assert locomotion.TASKS["hopper"].healthy(qpos, np.full(6, 99.0))
    assert not locomotion.TASKS["hopper"].healthy(qpos, np.array([0, 0, 0, 0, 0, -100.0]))


def test_a_render_mode_gives_pictures_and_none_gives_nothing():
    assert make("hopper").render() is None
    with pytest.raises(ValueError, match="'human' is none of"):
        envs.make("hopper-medium-v2", render_mode="human")
