"""OGBench's files become a task's transitions by OGBench's own rules."""

import dataclasses
import sys

import numpy as np
import pytest

from iql_jax import data, envs
from iql_jax.data import download, ogbench
from iql_jax.data.raw import fingerprint, validate
from iql_jax.envs import ogbench_env
from iql_jax.errors import InputError

pytest.importorskip("ogbench")

NAME = "ogbench/antmaze-medium-navigate-singletask-task{}-v0"
GOALS = {1: (20.0, 20.0), 2: (0.0, 20.0)}  # OGBench's first two tasks in the medium maze


def write(folder, name="antmaze-medium-navigate-v0.npz", length=6, **changes):
    """Writes two trajectories of an ant that goes straight to the goal of a task each."""
    qpos = np.zeros((2 * length, 15), np.float32)
    for i, goal in enumerate(GOALS.values()):
        share = np.linspace(0.0, 1.0, length)[:, None]
        qpos[i * length : (i + 1) * length, :2] = share * np.array(goal)
    rng = np.random.default_rng(0)
    qvel = rng.normal(size=(2 * length, 14)).astype(np.float32)
    terminals = np.zeros(2 * length, np.bool_)
    terminals[length - 1 :: length] = True
    arrays = {
        "observations": np.concatenate((qpos, qvel), axis=1),
        "actions": rng.uniform(-1, 1, (2 * length, 8)).astype(np.float32),
        "terminals": terminals,
        "qpos": qpos,
        "qvel": qvel,
    } | changes
    np.savez(folder / name, **{key: value for key, value in arrays.items() if value is not None})
    return arrays


def test_rows_are_ogbenchs_own(tmp_path):
    import ogbench as package

    write(tmp_path)
    write(tmp_path, "antmaze-medium-navigate-v0-val.npz", length=4)
    name = NAME.format(1)
    raw = data.load(name, data_dir=tmp_path)
    _, train, val = package.make_env_and_datasets(
        name.removeprefix("ogbench/"), dataset_dir=str(tmp_path)
    )
    for key in ("observations", "actions", "next_observations", "rewards", "masks"):
        np.testing.assert_array_equal(getattr(raw, key), train[key])
    np.testing.assert_array_equal(raw.ends, train["terminals"])
    assert (
        len(ogbench.load_ogbench(name, tmp_path, split="val").rewards) == len(val["rewards"]) == 6
    )
    assert raw.env_name == name
    assert raw.source.startswith("OGBench (Park et al. 2025), https://")


def test_a_task_pays_at_its_own_goal(tmp_path):
    write(tmp_path)
    env = envs.make(NAME.format(2))
    env.reset(seed=0)
    goal = env.unwrapped.cur_goal_xy
    raw = data.load(NAME.format(2), data_dir=tmp_path)
    near = np.linalg.norm(raw.observations[:, :2] - goal, axis=1) <= 0.5
    np.testing.assert_array_equal(raw.rewards, near - 1.0)
    np.testing.assert_array_equal(raw.masks, 1.0 - near)
    *_, info = env.step(np.zeros(8))
    assert "success" in info


def test_all_five_tasks_share_the_rows(tmp_path):
    write(tmp_path)
    name = NAME.format(1).replace("task1", "all")
    raw = data.load(name, data_dir=tmp_path)
    assert raw.tasks == data.tasks(name) == tuple(NAME.format(task) for task in range(1, 6))
    assert raw.outcomes.shape == (5, len(raw.rewards), 2) == (5, 10, 2)
    for task in (1, 2):
        one, part = data.load(NAME.format(task), data_dir=tmp_path), raw.of_task(task - 1)
        assert (part.name, part.env_name) == (one.name, one.env_name)
        np.testing.assert_array_equal(part.rewards, one.rewards)
        np.testing.assert_array_equal(part.masks, one.masks)
    outcomes = raw.outcomes.copy()
    outcomes[3, 2, 0] = 7.0
    changed = dataclasses.replace(raw, outcomes=outcomes)
    assert fingerprint(changed) != fingerprint(raw)
    outcomes[3, 2, 1] = np.nan
    with pytest.raises(InputError, match="task4-v0: 'masks' row 2 is nan"):
        validate(changed)
    with pytest.raises(InputError, match=r"is five tasks: an environment is of one, ogbench/antma"):
        envs.make(name)
    assert data.tasks("hopper-medium-v2") == data.tasks(NAME.format(1)) == ()


@pytest.mark.parametrize("name", ogbench_env.NAMES)
def test_every_name_has_an_environment_of_ogbenchs(name):
    import gymnasium

    ogbench_env.ogbench_package()
    assert ogbench_env.parse_name(name).env_id in gymnasium.registry
    assert envs.exists(name)


def test_the_default_task_needs_no_number():
    parts = ogbench_env.parse_name("ogbench/cube-single-play-singletask-v0")
    assert parts.env_id == "cube-single-singletask-v0"
    assert parts.file_stem == "cube-single-play-v0" and parts.task is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ogbench/antmaze-large-navigate-v0", "names no task.*singletask-task1"),
        (
            "ogbench/antmaze-larg-navigate-singletask-task1-v0",
            "did you mean 'antmaze-large-navigate-singletask-task1-v0'",
        ),
        ("ogbench/antmaze-large-navigate-singletask-task6-v0", "names no task"),
        ("ogbench/nothing", "unknown OGBench dataset 'nothing'"),
    ],
)
def test_unknown_names_are_answered(name, message):
    with pytest.raises(InputError, match=message):
        data.load(name)
    assert not envs.exists(name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"qpos": None}, "missing qpos; OGBench's files have"),
        ({"actions": np.zeros((3, 8))}, "'actions' has 3 rows but 'observations' has 12"),
        ({"terminals": np.zeros(12, np.bool_)}, "'terminals' must end with 1"),
    ],
)
def test_broken_files_are_named(tmp_path, changes, message):
    write(tmp_path, **changes)
    with pytest.raises(InputError, match=f"navigate-v0.npz: {message}"):
        data.load(NAME.format(1), data_dir=tmp_path)


def test_buttons_must_be_in_the_file_where_rewards_need_them(tmp_path):
    class Puzzle:
        _reward_task_id = 1
        _num_buttons = 2
        _target_button_states = np.ones(2)

        @property
        def unwrapped(self):
            return self

        def reset(self):
            pass

    parts = ogbench_env.parse_name("ogbench/puzzle-3x3-play-singletask-task1-v0")
    with pytest.raises(InputError, match="need 'button_states' in the dataset's file"):
        ogbench._relabel(parts, Puzzle(), {"qpos": np.zeros((4, 20))})
    states = np.array([[1, 0], [1, 1], [0, 0]])
    rewards, masks = ogbench._relabel(parts, Puzzle(), {"button_states": states})
    np.testing.assert_array_equal(rewards, [-1, 0, -2])
    np.testing.assert_array_equal(masks, [1, 0, 1])


def test_a_file_that_cannot_be_had_is_told_where_to_go(tmp_path, monkeypatch):
    def refuse(url, path, **options):
        raise download.DownloadError("no network")

    monkeypatch.setattr(download, "download", refuse)
    with pytest.raises(InputError, match=r"antmaze-medium-navigate-v0.npz.*no network.*by hand"):
        data.load(NAME.format(1), data_dir=tmp_path)


def test_a_download_must_be_an_npz_file(tmp_path, monkeypatch):
    def serve(url, path, check):
        path.write_text("<html>")
        check(path)

    monkeypatch.setattr(download, "download", serve)
    with pytest.raises(ValueError, match="it is no NPZ file"):
        ogbench._download("x", "https://host/x.npz", tmp_path / "x.npz")


def test_a_missing_package_names_its_installation(monkeypatch):
    monkeypatch.setitem(sys.modules, "ogbench", None)
    with pytest.raises(InputError, match='need the package ogbench: pip install "ogbench'):
        envs.make(NAME.format(1))


def test_an_unknown_split_is_refused(tmp_path):
    with pytest.raises(InputError, match="split is 'test'"):
        ogbench.load_ogbench(NAME.format(1), tmp_path, split="test")
