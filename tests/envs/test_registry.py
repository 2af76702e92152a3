"""Environments are found by name, and a wrong name is answered with the right one."""

import gymnasium
import numpy as np
import pytest

from iql_jax import envs
from iql_jax.envs.d4rl_names import datasets
from iql_jax.errors import InputError


@pytest.mark.parametrize(
    ("name", "dim"), [("hopper-medium-v2", 3), ("d4rl/ant-medium-v0", 8), ("walker2d-random-v1", 6)]
)
def test_d4rl_names_make_environments_with_unit_actions(name, dim):
    env = envs.make(name)
    assert env.action_space.shape == (dim,)
    assert (env.action_space.low == -1).all()
    assert (env.action_space.high == 1).all()
    assert envs.exists(name)


def test_every_d4rl_name_has_its_environment():
    assert all(envs.exists(name) and envs.exists(f"d4rl/{name}") for name in datasets())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hoper-medium-v2", "did you mean 'hopper-medium-v2'"),
        ("d4rl/hopper-medum-v2", "did you mean 'd4rl/hopper-medium-v2'"),
        ("generated/antmaze-umase-v0", "did you mean 'generated/antmaze-umaze-v0'"),
        ("Pendulm-v1", "did you mean 'Pendulum-v1'"),
        ("no_such_module:Env-v0", "'no_such_module', which does not import"),
        ("", "no environment ''"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(name, message):
    assert not envs.exists(name)
    with pytest.raises(InputError, match=message):
        envs.make(name)


def test_dictionaries_and_choices_become_vectors():
    maze = envs.make("PointMaze_Medium-v3")
    assert maze.observation_space.shape == (8,)
    seen, _ = maze.reset(seed=0)
    np.testing.assert_array_equal(seen[:2], seen[4:6])  # where it is, before where it is to go
    assert maze.step(np.zeros(2))[4]["success"] is False
    poles = envs.make("CartPole-v1")
    assert poles.action_space.shape == (2,)
    poles.reset(seed=0)
    pushed = [poles.step(np.eye(2)[1])[0][1] for _ in range(3)]
    assert pushed[0] < pushed[1] < pushed[2]  # to the right


def test_environments_that_have_no_vectors_are_refused():
    class Speaking(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1, 1, (2,))
        action_space = gymnasium.spaces.Text(3)

    gymnasium.register("Speaking-v0", Speaking)
    try:
        with pytest.raises(InputError, match=r"'Speaking-v0' cannot be used: actions in a Text"):
            envs.make("Speaking-v0")
    finally:
        gymnasium.registry.pop("Speaking-v0", None)


def test_gymnasium_ids_are_made_without_a_word(capsys):
    assert envs.make("Pendulum-v1").spec.id == "Pendulum-v1"
    assert envs.make("AdroitHandPen-v1").observation_space.shape == (45,)
    assert envs.exists("Hopper-v5")
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_a_users_own_environment_comes_by_module_and_id(tmp_path, monkeypatch):
    (tmp_path / "my_tasks_of_mine.py").write_text(
        "import gymnasium\n"
        "from gymnasium.envs.classic_control import PendulumEnv\n"
        "gymnasium.register('Swing-v0', PendulumEnv, max_episode_steps=7)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        assert envs.make("my_tasks_of_mine:Swing-v0").spec.max_episode_steps == 7
    finally:
        gymnasium.registry.pop("Swing-v0", None)


def test_an_environment_that_lacks_a_package_says_so_in_one_line():
    with (
        pytest.warns(DeprecationWarning),
        pytest.raises(InputError, match="cannot be made") as info,
    ):
        envs.make("Hopper-v2")
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("name", ["antmaze-umaze-v2", "generated/pointmaze-umaze-v0"])
def test_mazes_come_by_name(name):
    env = envs.make(name)
    env.reset(seed=0)
    *_, info = env.step(np.zeros(env.action_space.shape))
    assert info["success"] is False
