"""Minari's datasets, written by Minari here, become transitions and give back environments."""

import gc
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from iql_jax import data, envs
from iql_jax.envs import scores
from iql_jax.envs.flatten import flatten_env, flatten_rows, num_numbers
from iql_jax.errors import InputError
from tests.data.reach import Reach

minari = pytest.importorskip("minari")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    gymnasium.register("ReachForMinari-v0", "tests.data.reach:Reach", max_episode_steps=5)
    yield tmp_path
    gymnasium.registry.pop("ReachForMinari-v0")


def write(name, env_id, num_episodes=3, max_episode_steps=None, **metadata):
    """Collects episodes of random actions with Minari's own collector."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env = gymnasium.make(env_id, max_episode_steps=max_episode_steps)
        env.action_space.seed(0)
        collector = minari.DataCollector(env)
        for seed in range(num_episodes):
            collector.reset(seed=seed)
            ended = False
            while not ended:
                _, _, terminated, truncated, _ = collector.step(env.action_space.sample())
                ended = terminated or truncated
        dataset = collector.create_dataset(name, author="us", **metadata)
        collector.close()
        del collector
        gc.collect()  # it leaves a folder of temporary files to be found, with a warning
    return dataset


def test_every_step_is_a_transition():
    made = write("test/pendulum-v0", "Pendulum-v1", max_episode_steps=7)
    raw = data.load("minari/test/pendulum-v0")
    assert len(raw.rewards) == 21
    np.testing.assert_array_equal(np.flatnonzero(raw.ends), [6, 13, 20])
    assert raw.masks.all()  # time limits cut nothing
    episodes = list(made.iterate_episodes())
    np.testing.assert_array_equal(raw.observations[7:14], episodes[1].observations[:-1])
    np.testing.assert_array_equal(raw.next_observations[7:14], episodes[1].observations[1:])
    np.testing.assert_array_equal(raw.actions[7:14], episodes[1].actions)
    np.testing.assert_allclose(raw.rewards[7:14], episodes[1].rewards, rtol=1e-6)
    assert raw.source == "Minari test/pendulum-v0, collected in Pendulum-v1, by us"


def test_the_environment_is_recovered_with_its_time_limit():
    write("test/pendulum-v0", "Pendulum-v1", max_episode_steps=7)
    raw = data.load("minari/test/pendulum-v0")
    assert envs.exists(raw.env_name)
    env = envs.make(raw.env_name)
    assert env.spec.id == "Pendulum-v1" and env.spec.max_episode_steps == 7
    assert scores.reference_returns(raw.env_name) is None


def test_the_environment_for_evaluation_comes_first():
    write("test/pendulum-v0", "Pendulum-v1", eval_env="MountainCarContinuous-v0")
    assert envs.make("minari/test/pendulum-v0").spec.id == "MountainCarContinuous-v0"


def test_reference_scores_are_the_datasets():
    write("test/scored-v0", "Pendulum-v1", ref_min_score=-1000.0, ref_max_score=-200.0)
    assert scores.reference_returns("minari/test/scored-v0") == (-1000.0, -200.0)
    np.testing.assert_allclose(scores.normalized_score("minari/test/scored-v0", -600.0), 50.0)
    assert scores.reference_returns("minari/test/missing-v0") is None


def test_dictionaries_are_flattened_alike_in_data_and_environment():
    write("test/reach-v0", "ReachForMinari-v0")
    raw = data.load("minari/test/reach-v0")
    np.testing.assert_allclose(raw.observations[1], [-0.1, 0.5, 0.1, 0.1, 0.1, 0.1])
    np.testing.assert_allclose(raw.next_observations[1], [-0.2, 0.5, 0.2, 0.2, 0.2, 0.2])
    np.testing.assert_array_equal(raw.masks, [1, 1, 0] * 3)
    env = envs.make(raw.env_name)
    assert env.observation_space.shape == (6,)
    observation, _ = env.reset(seed=0)
    np.testing.assert_allclose(observation, raw.observations[0])
    steps = [env.step(np.zeros(3, np.float32)) for _ in range(3)]
    np.testing.assert_allclose(steps[1][0], raw.next_observations[1], rtol=1e-6)
    assert [info["success"] for *_, info in steps] == [False, False, True]


def test_choices_are_one_hot():
    write("test/cart-v0", "CartPole-v1", num_episodes=2)
    raw = data.load("minari/test/cart-v0")
    assert raw.actions.shape[1] == 2
    np.testing.assert_array_equal(raw.actions.sum(axis=1), 1)
    assert (raw.masks == 0).sum() == 2
    env = envs.make(raw.env_name)
    assert env.action_space.shape == (2,)
    env.reset(seed=0)
    pushed = [env.step(np.array([0.0, 1.0]))[0][1] for _ in range(3)]  # the cart's speed
    assert pushed[2] > pushed[1] > pushed[0]


def test_flat_rows_are_gymnasiums():
    space = Reach.observation_space
    values = {key: np.stack([space[key].sample() for _ in range(4)]) for key in space.spaces}
    rows = flatten_rows(space, values)
    for i in range(4):
        one = {key: values[key][i] for key in values}
        np.testing.assert_array_equal(rows[i], spaces.flatten(space, one))
    nested = spaces.Tuple((spaces.Discrete(3, start=1), space))
    assert num_numbers(nested) == 9
    np.testing.assert_array_equal(flatten_rows(nested, (np.array([1, 3]), values_of(values, 2))), [
        [1, 0, 0, *rows[0]], [0, 0, 1, *rows[1]],
    ])  # fmt: skip


def values_of(values, count):
    return {key: value[:count] for key, value in values.items()}


def test_environments_of_vectors_are_left_alone():
    env = gymnasium.make("Pendulum-v1")
    assert flatten_env(env) is env


def test_what_cannot_be_flattened_is_refused():
    class Talk(Reach):
        observation_space = spaces.Text(5)

    with pytest.raises(InputError, match="a Text space cannot be flattened"):
        flatten_env(Talk())

    class Both(Reach):
        action_space = spaces.Tuple((spaces.Discrete(2), spaces.Discrete(2)))

    with pytest.raises(InputError, match="actions in a Tuple space are not supported"):
        flatten_env(Both())


def test_another_folder_can_be_named(tmp_path, monkeypatch):
    write("test/pendulum-v0", "Pendulum-v1", max_episode_steps=7)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "elsewhere"))
    assert len(data.load("minari/test/pendulum-v0", data_dir=tmp_path).rewards) == 21
    with pytest.raises(InputError, match=r"is not on this machine \(looked for in .*other"):
        data.load("minari/test/pendulum-v0", data_dir=tmp_path / "other")


def test_a_dataset_that_cannot_be_had_is_looked_for_by_name(monkeypatch):
    def refuse(name):
        raise ValueError(f"Couldn't find any version for dataset {name}\nin the remote server.")

    monkeypatch.setattr(minari, "download_dataset", refuse)
    with pytest.raises(InputError, match=r"Minari cannot download it: Couldn't find") as info:
        data.load("minari/test/missing-v0")
    assert "\n" not in str(info.value)
    assert not envs.exists("minari/test/missing-v0")
    with pytest.raises(InputError, match="is not on this machine"):
        envs.make("minari/test/missing-v0")


def test_a_download_is_read(monkeypatch):
    monkeypatch.setattr(
        minari,
        "download_dataset",
        lambda name: write(name, "Pendulum-v1", max_episode_steps=4),
    )
    assert len(data.load("minari/test/remote-v0").rewards) == 12


def test_a_damaged_dataset_is_named(folder):
    write("test/pendulum-v0", "Pendulum-v1", max_episode_steps=7)
    (folder / "test" / "pendulum-v0" / "data" / "metadata.json").write_text("{")
    with pytest.raises(InputError, match=r"pendulum-v0: Minari cannot read it"):
        data.load("minari/test/pendulum-v0")


def test_a_missing_package_names_its_installation(monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(InputError, match=r'need the package minari: pip install "minari'):
        data.load("minari/test/pendulum-v0")
    assert scores.reference_returns("minari/test/pendulum-v0") is None


def test_an_environment_that_cannot_be_made_names_what_it_needs():
    write(
        "test/reach-v0",
        "ReachForMinari-v0",
        requirements=["reach-robots>=2"],
        eval_env=gymnasium.envs.registration.EnvSpec("Gone-v0", entry_point="not_here:Gone"),
    )
    with pytest.raises(InputError, match=r"'Gone-v0' of .* cannot be made: .*reach-robots>=2"):
        envs.make("minari/test/reach-v0")
