"""AntMaze against recorded steps of D4RL's own environments, and its task by itself."""

import numpy as np
import pytest

from iql_jax import envs
from iql_jax.envs import antmaze, mazes
from iql_jax.envs.lockstep import Lockstep
from iql_jax.errors import InputError

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def recorded(shared):
    with np.load(shared / "golden" / "d4rl_env_steps.npz") as arrays:
        return {key: arrays[key] for key in arrays.files if key.startswith("antmaze")}


def touches_wall(env):
    names = (
        env.model.geom(int(geom)).name for contact in env.data.contact for geom in contact.geom
    )
    return any(name.startswith("wall") for name in names)


@pytest.mark.parametrize("name", [name for name in antmaze.D4RL_NAMES if name.endswith("v2")])
def test_every_recorded_step_is_d4rls(recorded, name):
    env = antmaze.make_antmaze(name)
    qpos, qvel, actions, observations, rewards, done, goals = (
        recorded[f"{name}|{key}"] for key in ("qpos", "qvel", "act", "obs", "rew", "done", "goal")
    )
    steps_per_reset = len(actions) // len(goals)
    for t, action in enumerate(actions):
        env.place(qpos[t], qvel[t])
        env.goal = goals[t // steps_per_reset]
        observation, reward, terminated, _, info = env.step(action)
        np.testing.assert_allclose(observation, observations[t], rtol=0, atol=TOLERANCE)
        assert (reward, terminated, info["success"]) == (rewards[t], done[t], bool(rewards[t]))
        # None of the recorded steps is near a wall, so none may differ for that reason.
        assert not touches_wall(env)
    assert env.max_episode_steps == recorded[f"{name}|max_episode_steps"]


@pytest.mark.parametrize("name", ["antmaze-umaze-v2", "antmaze-large-diverse-v2"])
def test_recorded_goals_and_starts_are_within_the_range_of_ours(recorded, name):
    env = antmaze.make_antmaze(name)
    corner = env.maze.center(env.task.goal)
    goals = recorded[f"{name}|goal"]
    assert ((corner <= goals) & (goals <= np.array(corner) + 1.5)).all()
    starts = np.concatenate([recorded[f"{name}|obs0"], [env.reset(seed=i)[0] for i in range(40)]])
    rest = env.model.qpos0
    assert np.abs(starts[:, :3] - rest[:3]).max() <= 0.1
    assert np.abs(starts[:, 7:15] - rest[7:]).max() <= 0.1
    np.testing.assert_allclose(np.linalg.norm(starts[:, 3:7], axis=1), 1.0, atol=1e-6)
    assert 0.08 < starts[:, 15:].std() < 0.12


def test_rollouts_stay_with_d4rls(recorded):
    name = "antmaze-large-play-v2"
    env = antmaze.make_antmaze(name)
    qpos, qvel, actions, observations = (
        recorded[f"{name}|{key}"] for key in ("qpos", "qvel", "act", "obs")
    )
    env.place(qpos[0], qvel[0])
    for action, observation in zip(actions[:30], observations[:30], strict=True):
        np.testing.assert_allclose(env.simulate(action), observation, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", antmaze.D4RL_NAMES + antmaze.GENERATED_NAMES)
def test_every_name_makes_an_environment(name):
    env = envs.make(name)
    assert env.observation_space.shape == (29,)
    assert env.action_space.shape == (8,)
    assert (env.action_space.low == -1).all() and (env.action_space.high == 1).all()
    assert env.max_episode_steps == (700 if "umaze" in name else 1000)
    assert env.spec.id == name
    observation, info = env.reset(seed=0)
    assert observation.shape == (29,) and info == {"success": False}


def test_an_unknown_name_is_told_the_nearest():
    with pytest.raises(InputError, match="did you mean 'antmaze-medium-play-v2'"):
        antmaze.make_antmaze("antmaze-medium-pley-v2")


def test_a_new_goal_is_drawn_at_each_reset():
    env = antmaze.make_antmaze("antmaze-medium-play-v2")
    env.reset(seed=0)
    goals = [env.goal]
    for _ in range(200):
        env.reset()
        goals.append(env.goal)
    offsets = np.array(goals) - env.maze.center((6, 6))
    assert offsets.min() >= 0 and offsets.max() <= 1.5
    np.testing.assert_allclose(offsets.mean(axis=0), 0.75, atol=0.1)
    np.testing.assert_allclose(
        antmaze.mean_goal(env.task) - env.maze.center((6, 6)), 0.75, atol=1e-12
    )


def test_the_episode_ends_half_a_metre_from_the_goal():
    env = antmaze.make_antmaze("antmaze-umaze-v2")
    env.reset(seed=0)
    still, at_rest = env.model.qpos0.copy(), np.zeros(env.model.nv)
    for distance, at_goal in [(0.47, True), (0.53, False)]:
        still[:2] = env.goal + np.array([0.0, distance])
        env.place(still, at_rest)
        _, reward, terminated, truncated, info = env.step(np.zeros(8))
        assert (reward, terminated, info["success"]) == (float(at_goal), at_goal, at_goal)
        assert not truncated


def test_the_time_limit_truncates():
    env = antmaze.make_antmaze("antmaze-umaze-v2")
    env.reset(seed=0)
    env.max_episode_steps = 3
    assert [env.step(np.zeros(8))[2:4] for _ in range(3)] == [
        (False, False),
        (False, False),
        (False, True),
    ]
    env.reset()
    assert not env.step(np.zeros(8))[3]


def test_walls_stand_where_the_map_has_them_and_stop_the_ant():
    model = antmaze.antmaze_model("umaze")
    maze = mazes.d4rl_maze("umaze")
    boxes = [model.geom(f"wall_{row}_{col}") for row, col in mazes.wall_cells(maze)]
    for box, cell in zip(boxes, mazes.wall_cells(maze), strict=True):
        np.testing.assert_allclose(box.pos, [*maze.center(cell), 1.0])
        np.testing.assert_allclose(box.size, [2.0, 2.0, 1.0])
    env = antmaze.make_antmaze("antmaze-umaze-v2")
    qpos, qvel = model.qpos0.copy(), np.zeros(model.nv)
    qvel[0] = -8.0  # thrown at the wall whose face is at x = -2
    env.place(qpos, qvel)
    positions = [env.simulate(np.zeros(8))[0] for _ in range(40)]
    assert -2.0 < min(positions) < -0.4


def test_environments_of_a_maze_share_one_model():
    names = ("antmaze-large-play-v2", "antmaze-large-diverse-v0", "generated/antmaze-large-play-v0")
    first, *others = (antmaze.make_antmaze(name) for name in names)
    assert all(env.model is first.model and env.data is not first.data for env in others)


def test_a_restored_state_goes_on_bit_for_bit():
    name = "antmaze-umaze-v2"
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1.2, 1.2, (60, 8))
    env = antmaze.make_antmaze(name)
    env.reset(seed=3)
    for action in actions[:30]:
        env.step(action)
    state = env.get_state()
    other = antmaze.make_antmaze(name)
    other.reset(seed=99)
    other.step(actions[0])
    other.set_state(state)
    for action in actions[30:]:
        first, second = env.step(action), other.step(action)
        np.testing.assert_array_equal(first[0], second[0])
        assert first[1:] == second[1:]
    assert env.elapsed_steps == other.elapsed_steps == 60
    np.testing.assert_array_equal(env.reset()[0], other.reset()[0])
    np.testing.assert_array_equal(env.goal, other.goal)


def test_lockstep_threads_change_nothing():
    results = []
    for num_threads in (1, 3):
        lockstep = Lockstep(lambda: antmaze.make_antmaze("antmaze-umaze-v2"), 3, num_threads)
        lockstep.reset([1, 2, 3])
        for action in np.random.default_rng(0).uniform(-1, 1, (10, 3, 8)):
            result = lockstep.step(action)
        results.append(result.observations)
        lockstep.close()
    np.testing.assert_array_equal(*results)


def test_rendering_shows_the_goal_and_disturbs_nothing():
    env = antmaze.make_antmaze("antmaze-umaze-v2", render_mode="rgb_array")
    env.reset(seed=0)
    env.step(np.ones(8))
    before = env.get_state()["physics"]
    try:
        image = env.render()
    except Exception as error:
        pytest.skip(f"no headless rendering here: {error}")
    assert image.shape == (480, 480, 3) and image.dtype == np.uint8
    red = (image[..., 0] > 150) & (image[..., 1] < 80) & (image[..., 2] < 80)
    assert red.any()
    np.testing.assert_array_equal(env.get_state()["physics"], before)
    env.close()
    with pytest.raises(ValueError, match="render_mode 'human'"):
        antmaze.make_antmaze("antmaze-umaze-v2", render_mode="human")
    assert antmaze.make_antmaze("antmaze-umaze-v2").render() is None
