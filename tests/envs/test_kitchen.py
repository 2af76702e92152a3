"""The kitchen against FrankaKitchen's physics, and D4RL's rules for its task."""

import pickle
import warnings

import gymnasium
import numpy as np
import pytest

from iql_jax import envs
from iql_jax.envs import kitchen, scores
from iql_jax.errors import InputError


def make(name="kitchen-mixed-v0", seed=0):
    env = envs.make(name)
    env.reset(seed=seed)
    return env


def quiet(env, monkeypatch):
    """Takes away what differs from FrankaKitchen: noise, and the old collision detection."""
    monkeypatch.setattr(env, "_noise", 0.0 * env._noise)
    monkeypatch.setattr(env.model.opt, "disableflags", 0)
    return env


def test_it_moves_as_franka_kitchen_does(monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import gymnasium_robotics

        gymnasium.register_envs(gymnasium_robotics)
        theirs = gymnasium.make(
            "FrankaKitchen-v1",
            robot_noise_ratio=0.0,
            object_noise_ratio=0.0,
            tasks_to_complete=["microwave", "kettle", "light switch", "bottom burner"],
        ).unwrapped
        theirs.reset(seed=0)
    env = quiet(make(), monkeypatch)
    first = env.place(kitchen._START, np.zeros(29))
    # D4RL's simulator makes the kettle's quaternion a unit one at once, FrankaKitchen's later.
    np.testing.assert_allclose(np.linalg.norm(first[26:30]), 1.0)
    np.testing.assert_array_equal(first[:26], theirs.data.qpos[:26])
    rng = np.random.default_rng(0)
    for _ in range(8):
        action = rng.uniform(-1.2, 1.2, 9)
        expected = theirs.step(action)[0]["observation"]
        observation = env.step(action)[0]
        theirs_positions = np.concatenate((expected[:9], expected[18:39]))
        np.testing.assert_allclose(observation[:30], theirs_positions, atol=1e-9)


@pytest.mark.parametrize("name", kitchen.d4rl_names())
def test_the_goal_is_in_the_observation(name):
    env = make(name)
    observation, info = env.reset(seed=0)
    assert observation.shape == env.observation_space.shape == (60,)
    assert info == {"success": False, "num_done": 0}
    goal = observation[30:]
    assert goal[22] == -0.75 and goal[25] == 1.62 and goal[17] == -0.69
    assert goal[19] == (0.0 if name == "kitchen-mixed-v0" else 0.37)
    assert goal[11] == (-0.88 if name == "kitchen-mixed-v0" else 0.0)
    assert env.max_episode_steps == 280


def test_noise_is_d4rls():
    env = make()
    seen = np.array([env.reset(seed=seed)[0][:30] for seed in range(300)])
    true = env.data.qpos
    width = np.abs(seen - true).max(axis=0)
    assert (width[:9] > 0.0095).all() and (width[:9] <= 0.01).all()
    assert 0.000475 < width[9] <= 0.0005  # a burner's knob
    assert 0.0095 < width[20] <= 0.01  # a hinge


def test_each_thing_pays_once_and_the_last_ends_the_episode(monkeypatch):
    env = quiet(make("kitchen-complete-v0"), monkeypatch)
    qpos = kitchen._START.copy()
    env.place(qpos, np.zeros(29))
    rewards = []
    for num_done, thing in enumerate(env.things, start=1):
        where, goal = kitchen._GOALS[thing]
        env.data.qpos[where] = goal
        _, reward, terminated, truncated, info = env.step(np.zeros(9))
        rewards.append(reward)
        assert info["num_done"] == num_done
        assert terminated == info["success"] == (num_done == 4)
        assert not truncated
        assert env.step(np.zeros(9))[1] == 0.0
    assert rewards == [1.0] * 4
    np.testing.assert_allclose(scores.normalized_score("kitchen-complete-v0", sum(rewards)), 100)
    env.reset(seed=1)
    assert env.step(np.zeros(9))[-1]["num_done"] == 0


def test_the_time_limit_truncates():
    env = make()
    env.elapsed_steps = 278
    assert [env.step(np.zeros(9))[3] for _ in range(2)] == [False, True]


def test_a_pickled_state_continues_bit_for_bit():
    env, other = make(), make(seed=1)
    actions = np.random.default_rng(0).uniform(-1, 1, (14, 9))
    for action in actions[:7]:
        env.step(action)
    env.open_things.discard("kettle")
    state = pickle.loads(pickle.dumps(env.get_state()))

    def run(env):
        steps = [env.step(action)[:4] for action in actions[7:]]
        observations, *rest = zip(*steps, strict=True)
        return np.array(observations), *rest, sorted(env.open_things), env.reset()[0]

    expected = run(env)
    for continued in (env, other):
        continued.set_state(state)
        for array, wanted in zip(run(continued), expected, strict=True):
            np.testing.assert_array_equal(array, wanted)


def test_an_unknown_name_is_told_the_nearest():
    with pytest.raises(InputError, match="did you mean 'kitchen-mixed-v0'"):
        kitchen.make_kitchen("kitchen-mixt-v0")


def test_an_action_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match=r"shape \(1,\), expected \(9,\)"):
        make().step(np.zeros(1))
