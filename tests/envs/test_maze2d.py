"""maze2d is D4RL's, step for step, walls included."""

import numpy as np
import pytest

from iql_jax import envs
from iql_jax.envs import maze2d, scores
from iql_jax.envs.d4rl_names import datasets
from iql_jax.errors import InputError

SIZES = ("umaze", "medium", "large")


def golden(shared, size):
    with np.load(shared / "golden" / "d4rl_env_steps.npz") as file:
        prefix = f"maze2d-{size}-v1|"
        return {key.removeprefix(prefix): file[key] for key in file if key.startswith(prefix)}


@pytest.mark.parametrize("size", SIZES)
def test_each_recorded_step_is_reproduced(shared, size):
    recorded, env = golden(shared, size), envs.make(f"maze2d-{size}-v1")
    env.reset(seed=0)
    np.testing.assert_array_equal(env.goal, recorded["goal"][0])
    assert env.max_episode_steps == recorded["max_episode_steps"]
    hit_walls = 0
    for i, action in enumerate(recorded["act"]):
        env.place(recorded["qpos"][i], recorded["qvel"][i])
        observation, reward, terminated, _, _ = env.step(action)
        np.testing.assert_allclose(observation, recorded["obs"][i], atol=1e-12, rtol=0)
        assert reward == recorded["rew"][i]
        assert not terminated
        hit_walls += env.data.ncon > 1
    assert hit_walls or size != "umaze"  # the one recording that meets a wall


@pytest.mark.parametrize("name", maze2d.d4rl_names())
def test_every_name_starts_on_a_free_cell_and_pays_at_the_goal(name):
    env = envs.make(f"d4rl/{name}")
    starts = np.array([env.reset(seed=seed)[0] for seed in range(60)])
    cells = {env.maze.cell_at(x, y) for x, y in starts[:, :2]}
    assert all(env.maze.is_free(cell) for cell in cells) and len(cells) > 3
    assert env.maze.cell_at(*env.goal)[::-1] == env.task.goal
    assert env.maze.is_free(env.maze.cell_at(*env.goal))
    env.place(env.goal, np.zeros(2))
    _, reward, terminated, truncated, info = env.step(np.zeros(2))
    assert reward == 1.0 and info["success"] and not terminated and not truncated
    env.place(env.goal + np.array([0.0, 0.51]), np.zeros(2))
    _, reward, _, _, info = env.step(np.zeros(2))
    assert reward == pytest.approx(np.exp(-0.51), abs=1e-6) if env.task.dense else reward == 0.0
    assert not info["success"]


def test_the_names_are_all_of_d4rls():
    assert len(maze2d.d4rl_names()) == sum(name.startswith("maze2d") for name in datasets()) == 14


@pytest.mark.parametrize(
    ("name", "returns", "score"),
    [("maze2d-umaze-v1", 161.86, 100.0), ("d4rl/maze2d-large-v1", 6.7, 0.0)],
)
def test_scores_are_d4rls(name, returns, score):
    np.testing.assert_allclose(scores.normalized_score(name, returns), score, atol=1e-9)


def test_only_the_time_limit_ends_an_episode():
    env = envs.make("maze2d-umaze-v1")
    env.reset(seed=0)
    env.place(env.goal, np.zeros(2))
    steps = [env.step(np.zeros(2)) for _ in range(300)]
    assert not any(terminated for _, _, terminated, _, _ in steps)
    assert [truncated for *_, truncated, _ in steps] == [False] * 299 + [True]
    assert sum(reward for _, reward, *_ in steps) == 300


def test_a_restored_state_goes_on_bit_for_bit():
    env, other = (envs.make("maze2d-medium-v1") for _ in range(2))
    env.reset(seed=3)
    for _ in range(40):
        env.step(np.array([1.0, -0.7]))
    other.reset(seed=4)
    other.set_state(env.get_state())
    for _ in range(40):
        first, second = env.step(np.array([0.3, 1.0])), other.step(np.array([0.3, 1.0]))
        np.testing.assert_array_equal(first[0], second[0])
        assert first[1:] == second[1:]
    np.testing.assert_array_equal(env.reset()[0], other.reset()[0])


def test_speed_is_limited_as_in_d4rl():
    env = envs.make("maze2d-large-v1")
    env.place(np.array([1.0, 1.0]), np.array([0.0, 9.0]))
    observation, *_ = env.step(np.zeros(2))
    assert observation[3] < 5.0


def test_an_unknown_name_is_told_the_nearest():
    with pytest.raises(InputError, match="did you mean 'maze2d-large-v1'"):
        maze2d.make_maze2d("maze2d-larg-v1")
