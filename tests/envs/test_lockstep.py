"""Environments in lockstep play what each would play alone, whatever the threads."""

import pickle
import threading

import gymnasium
import numpy as np
import pytest

from iql_jax import envs
from iql_jax.envs.lockstep import Lockstep
from iql_jax.errors import InputError

HOPPER = "hopper-medium-v2"


class Counter(gymnasium.Env):
    """Counts its steps; ends after as many as its seed, having succeeded if that is even."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gymnasium.spaces.Box(np.array([-2.0]), np.array([3.0]), dtype=np.float64)
    max_episode_steps = 6

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.length = 0, seed
        return np.array([0.0, seed]), {}

    def step(self, action):
        self.steps += 1
        ended = self.steps >= self.length
        observation = np.array([self.steps, self.length], float)
        info = {"success": ended and self.length % 2 == 0}
        return observation, float(action[0]), ended, self.steps >= 6, info


@pytest.fixture
def counters():
    lockstep = Lockstep(Counter, 3)
    yield lockstep
    lockstep.close()


def hoppers(num_envs, num_threads=None):
    return Lockstep(lambda: envs.make(HOPPER), num_envs, num_threads)


def test_it_tells_the_shape_of_the_task(counters):
    assert (counters.num_envs, counters.observation_dim, counters.action_dim) == (3, 2, 1)
    np.testing.assert_array_equal(counters.action_low, np.float32([-2]))
    np.testing.assert_array_equal(counters.action_high, np.float32([3]))
    assert counters.action_low.dtype == np.float32
    assert counters.max_episode_steps == 6


def test_each_row_is_its_own_environment(counters):
    observations = counters.reset([1, 2, 9])
    np.testing.assert_array_equal(observations, np.float32([[0, 1], [0, 2], [0, 9]]))
    assert observations.dtype == np.float32
    result = counters.step(np.float32([[0.5], [1.5], [2.5]]))
    np.testing.assert_array_equal(result.observations, np.float32([[1, 1], [1, 2], [1, 9]]))
    np.testing.assert_array_equal(result.rewards, [0.5, 1.5, 2.5])
    np.testing.assert_array_equal(result.terminated, [True, False, False])
    np.testing.assert_array_equal(result.truncated, [False] * 3)
    result = counters.step(np.zeros((3, 1)))
    np.testing.assert_array_equal(result.success, [False, True, False])
    assert [array.dtype for array in result] == [np.float32, np.float64, bool, bool, bool]


def test_exactly_one_episode_each_with_the_finished_left_out(counters):
    counters.reset([4, 1, 9])
    active = np.ones(3, bool)
    steps, returns, success = np.zeros(3, int), np.zeros(3), np.zeros(3, bool)
    while active.any():
        result = counters.step(np.ones((3, 1)), active)
        steps += active
        returns += result.rewards * active
        success |= result.success & active
        active &= ~(result.terminated | result.truncated)
    np.testing.assert_array_equal(steps, [4, 1, 6])  # 9 is beyond the time limit
    np.testing.assert_array_equal(returns, [4, 1, 6])
    np.testing.assert_array_equal(success, [True, False, False])


def test_rows_left_out_repeat_their_last_values(counters):
    counters.reset([2, 2, 2])
    first = counters.step(np.full((3, 1), 0.25))
    second = counters.step(np.full((3, 1), 0.75), np.array([True, False, True]))
    for now, then in zip(second, first, strict=True):
        np.testing.assert_array_equal(now[1], then[1])
    np.testing.assert_array_equal(second.observations[:, 0], [2, 1, 2])
    np.testing.assert_array_equal(second.terminated, [True, False, True])


def test_results_are_not_overwritten_by_later_steps(counters):
    observations = counters.reset([9, 9, 9])
    first = counters.step(np.zeros((3, 1)))
    counters.step(np.ones((3, 1)))
    assert observations[0, 0] == 0
    assert first.observations[0, 0] == 1
    assert first.rewards[0] == 0


def test_some_can_start_again_while_others_go_on(counters):
    counters.reset([1, 3, 3])
    counters.step(np.ones((3, 1)))
    observations = counters.reset_where(np.array([True, False, False]), [5, 0, 0])
    np.testing.assert_array_equal(observations, np.float32([[0, 5], [1, 3], [1, 3]]))
    result = counters.step(np.zeros((3, 1)), np.array([False, True, True]))
    assert not result.terminated[0]
    assert result.rewards[0] == 0
    np.testing.assert_array_equal(result.observations, np.float32([[0, 5], [2, 3], [2, 3]]))


def test_unseeded_restarts_go_on_with_each_environments_own_stream():
    lockstep, again = hoppers(2), hoppers(2)
    everyone = np.ones(2, bool)
    for one in (lockstep, again):
        one.reset([5, 6])
    first = lockstep.reset_where(everyone)
    np.testing.assert_array_equal(first, again.reset_where(everyone))
    assert (first != lockstep.reset_where(everyone)).any()
    lockstep.close()
    again.close()


@pytest.mark.parametrize("num_threads", [1, 2, 5])
def test_numbers_are_those_of_single_environments(num_threads):
    lockstep = hoppers(5, num_threads)
    seeds = [3, 1, 4, 1, 5]
    singles = [envs.make(HOPPER) for _ in seeds]
    expected = [env.reset(seed=seed)[0] for env, seed in zip(singles, seeds, strict=True)]
    np.testing.assert_array_equal(lockstep.reset(seeds), np.float32(expected))
    rng = np.random.default_rng(0)
    for _ in range(40):
        actions = rng.uniform(-1, 1, (5, 3)).astype(np.float32)
        result = lockstep.step(actions)
        for i, env in enumerate(singles):
            observation, reward, terminated, truncated, _ = env.step(actions[i])
            np.testing.assert_array_equal(result.observations[i], np.float32(observation))
            assert result.rewards[i] == reward
            assert result.terminated[i] == terminated
            assert result.truncated[i] == truncated
    assert result.terminated.any()
    lockstep.close()


@pytest.mark.parametrize("name", [HOPPER, "antmaze-umaze-v2", "generated/pointmaze-umaze-v0"])
def test_a_pickled_state_continues_bit_for_bit(name):
    def make():
        return Lockstep(lambda: envs.make(name), 3, 2)

    def play(lockstep, actions):
        active = np.array([True, False, True])
        results = [lockstep.step(action, active) for action in actions]
        return *(np.array(field) for field in zip(*results, strict=True)), lockstep.reset_where(
            np.ones(3, bool)
        )

    lockstep, other = make(), make()
    actions = np.random.default_rng(0).uniform(-1, 1, (100, 3, lockstep.action_dim))
    lockstep.reset([7, 8, 9])
    for action in actions[:50]:
        lockstep.step(action)
    state = pickle.loads(pickle.dumps(lockstep.get_state()))
    expected = play(lockstep, actions[50:])
    for continued in (lockstep, other):
        continued.set_state(state)
        for array, wanted in zip(play(continued, actions[50:]), expected, strict=True):
            np.testing.assert_array_equal(array, wanted)
        continued.close()


def test_any_gymnasium_environment_can_be_stepped():
    lockstep = Lockstep(lambda: envs.make("Pendulum-v1"), 2)
    assert lockstep.num_threads == 1  # Python steps hold the interpreter lock
    assert lockstep.max_episode_steps == 200
    lockstep.reset([0, 1])
    for _ in range(200):
        result = lockstep.step(np.zeros((2, 1)))
    assert result.truncated.all()
    with pytest.raises(InputError, match="'Pendulum-v1' cannot save its state"):
        lockstep.get_state()
    lockstep.close()


def test_an_error_in_any_thread_reaches_the_caller_and_the_team_works_on():
    class Failing(Counter):
        def step(self, action):
            if action[0] < 0:
                raise RuntimeError(f"broke at {self.length}")
            return super().step(action)

    lockstep = Lockstep(Failing, 4, 2)
    lockstep.reset([1, 2, 3, 4])
    for bad in range(4):
        actions = np.ones((4, 1))
        actions[bad] = -1
        with pytest.raises(RuntimeError, match=f"broke at {bad + 1}"):
            lockstep.step(actions)
    assert lockstep.step(np.ones((4, 1))).rewards.sum() == 4
    lockstep.close()


def test_closing_ends_the_threads_and_may_be_repeated():
    before = threading.active_count()
    lockstep = hoppers(4, 3)
    assert threading.active_count() == before + 2  # the caller is the third
    lockstep.close()
    lockstep.close()
    assert threading.active_count() == before


def test_no_more_threads_than_environments():
    lockstep = hoppers(2, 16)
    assert lockstep.num_threads == 2
    lockstep.close()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c.reset([1, 2]), "2 seeds for 3 environments"),
        (lambda c: c.step(np.zeros((2, 1))), r"shape \(2, 1\), expected \(3, 1\)"),
        (lambda c: c.step(np.zeros((3, 1)), np.ones(2, bool)), r"active is bool\[2\]"),
        (lambda c: c.step(np.zeros((3, 1)), np.ones(3)), r"active is float64\[3\], .*bool\[3\]"),
        (lambda c: c.step(np.zeros((3, 1))), "before their first reset"),
        (lambda c: c.reset_where(np.ones(4, bool), [1] * 3), r"mask is bool\[4\]"),
        (lambda c: c.set_state({"envs": [None]}), "of 1 environments, this has 3"),
    ],
)
def test_misuse_is_named(counters, call, message):
    with pytest.raises(InputError, match=message):
        call(counters)


@pytest.mark.parametrize(
    ("make_env", "counts", "message"),
    [
        (Counter, (0, None), "num_envs is 0"),
        (Counter, (1, -2), "num_threads is -2"),
        (lambda: gymnasium.make("CartPole-v1"), (1, None), "'CartPole-v1' has a Discrete action"),
        (
            lambda: gymnasium.envs.classic_control.PendulumEnv(),
            (1, None),
            "'PendulumEnv' has no time limit",
        ),
    ],
)
def test_environments_that_cannot_be_evaluated_are_refused(make_env, counts, message):
    with pytest.raises(InputError, match=message):
        Lockstep(make_env, *counts)
