"""Adroit's binary tasks: -1 until the task is done, and nothing else ends an episode early."""

import numpy as np
import pytest

from iql_jax import envs
from iql_jax.envs import adroit_binary, scores
from iql_jax.envs.lockstep import Lockstep
from iql_jax.errors import InputError


@pytest.fixture
def env():
    env = envs.make("binary/pen-human-v1")
    env.reset(seed=0)
    return env


def test_a_step_costs_one_and_success_ends_the_episode(env, monkeypatch):
    dense = envs.make("pen-human-v1")
    np.testing.assert_array_equal(env.reset(seed=0)[0], dense.reset(seed=0)[0])
    action = np.zeros(24, np.float32)
    observation, reward, terminated, truncated, info = env.step(action)
    np.testing.assert_array_equal(observation, dense.step(action)[0])
    assert (reward, terminated, truncated, info) == (-1.0, False, False, {"success": False})
    monkeypatch.setattr(env, "_outcome", lambda: (61.0, True, False))
    assert env.step(action)[1:] == (0.0, True, False, {"success": True})


def test_a_pen_that_falls_ends_nothing_but_time_does(env, monkeypatch):
    monkeypatch.setattr(env, "_outcome", lambda: (-5.0, False, True))
    ends = [env.step(np.zeros(24, np.float32))[1:4] for _ in range(100)]
    assert set(ends[:-1]) == {(-1.0, False, False)} and ends[-1] == (-1.0, False, True)


@pytest.mark.parametrize("task", adroit_binary.TASKS)
def test_every_task_saves_its_state(task):
    name = f"binary/{task}-cloned-v1"
    assert envs.exists(name) and scores.reference_returns(name) is None  # so success is the score
    lockstep = Lockstep(lambda: envs.make(name), 1)
    lockstep.reset([3])
    actions = np.random.default_rng(0).uniform(-1, 1, (4, 1, lockstep.action_dim))
    actions = actions.astype(np.float32)
    lockstep.step(actions[0])
    state = lockstep.get_state()
    first = [lockstep.step(action).observations for action in actions]
    lockstep.set_state(state)
    np.testing.assert_array_equal(first, [lockstep.step(a).observations for a in actions])
    lockstep.close()


def test_other_tasks_have_no_binary_kind():
    with pytest.raises(InputError, match="there is no environment 'binary/hammer-human-v1'"):
        envs.make("binary/hammer-human-v1")
    with pytest.raises(InputError, match=r"did you mean 'binary/pen-human-v1'"):
        adroit_binary.make_binary("binary/pen-humen-v1")
