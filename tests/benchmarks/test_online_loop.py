"""Loops take turns by environment steps, and what is left of a step is told."""

import importlib
import subprocess
import sys

import pytest

from benchmarks import online_loop
from benchmarks.online_work import Turns

GYM = """
import numpy as np, gymnasium
from benchmarks import stand_ins
steps = []
stand_ins.install(["gym"])
stand_ins.install_gym_of_2022(lambda name: gymnasium.make(name), lambda: steps.append(1))
import gym
from gym.spaces import Box, Dict
class Monitor(gym.ActionWrapper):
    def step(self, action):
        return self.env.step(action)
class Single(gym.ObservationWrapper):
    def observation(self, observation):
        return observation.astype(np.float32) + 1
env = Single(Monitor(gym.make("Pendulum-v1")))
env.seed(3)
assert isinstance(env.observation_space, Box) and not hasattr(env, "get_normalized_score")
other = gymnasium.make("Pendulum-v1")
assert np.array_equal(env.reset(), other.reset(seed=3)[0] + 1)
for _ in range(200):
    observation, reward, done, info = env.step(np.array([0.5], np.float32))
    expected = other.step(np.array([0.5], np.float32))
    assert np.array_equal(observation, expected[0] + 1) and reward == expected[1]
assert done and info["TimeLimit.truncated"] and len(steps) == 200
"""


def test_gym_of_2022_is_the_same_environment(repository):
    subprocess.run([sys.executable, "-W", "error", "-c", GYM], cwd=repository, check=True)


def test_a_loop_goes_on_for_as_many_steps_as_it_is_given():
    steps = []

    def loop():
        for step in range(7):
            turns.before_step()
            steps.append(step)
        raise ValueError("out of memory")

    turns = Turns(loop)
    turns.take(2)
    assert steps == [0, 1]
    turns.take(3)
    assert steps == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="out of memory"):
        turns.take(3)


def test_what_is_neither_update_nor_physics_is_the_rest():
    loop, update, physics = (
        {"rounds_us": times} for times in ([100.0, 200.0], [80.0, 150.0], [10.0, 30.0])
    )
    found = online_loop.overhead(loop, update, physics)
    assert found["other"] == {"median": 15.0, "min": 10.0, "max": 20.0}
    assert found["other_share"]["max"] == pytest.approx(0.1)


def test_both_loops_are_of_the_same_sizes():
    spec = {"env_name": "generated/pointmaze-umaze-v0", "rows": 9, "batch_size": 5, "steps": 3}
    found = online_loop.specs(spec, "/code", [1, 4])
    assert next(iter(found)) == online_loop.AUTHORS and len(found) == 7
    module, update = found["update, 4"]
    assert importlib.import_module(module).PROGRAMS[update["program"]]
    assert (update["observation_dim"], update["action_dim"], update["updates"]) == (4, 2, 3)
    for name, (_, own) in found.items():
        assert own["batch_size"] == 5 and own["rows"] == 9
        assert own.get("members", 1) == int(name.rpartition(" ")[2] if "," in name else 1)
