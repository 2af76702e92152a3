import time
import tracemalloc
import urllib.error
import urllib.request

import numpy as np
import pytest

from iql_jax import data
from iql_jax.data import d4rl
from iql_jax.errors import InputError

GOLDEN = ["timeouts", "no_timeouts", "sparse"]


def plain_qlearning_dataset(arrays, limit, terminate_on_end=False):
    """D4RL's rules, one row at a time."""
    kept = []
    step = 0
    for i in range(len(arrays["rewards"]) - 1):
        at_limit = arrays["timeouts"][i] if "timeouts" in arrays else step == limit - 1
        if at_limit and not terminate_on_end:
            step = 0
            continue
        if arrays["terminals"][i] or at_limit:
            step = 0
        kept.append(i)
        step += 1
    kept = np.array(kept, np.int64)
    return {
        "observations": arrays["observations"][kept],
        "actions": arrays["actions"][kept],
        "next_observations": arrays["observations"][kept + 1],
        "rewards": arrays["rewards"][kept],
        "terminals": arrays["terminals"][kept],
    }


def plain_episode_ends(observations, next_observations, terminals):
    """The authors' rule, one row at a time."""
    ends = np.ones(len(terminals), np.bool_)
    for i in range(len(terminals) - 1):
        gap = np.linalg.norm(observations[i + 1] - next_observations[i])
        ends[i] = gap > 1e-6 or terminals[i]
    return ends


def random_flags(rng):
    rows = int(rng.integers(0, 60))
    density = rng.choice([0.0, 0.05, 0.3, 0.8])
    arrays = {
        "observations": rng.standard_normal((rows, 2), np.float32),
        "actions": rng.uniform(-1, 1, (rows, 1)).astype(np.float32),
        "rewards": rng.standard_normal(rows, np.float32),
        "terminals": rng.random(rows) < density,
    }
    if rng.random() < 0.3:
        arrays["timeouts"] = rng.random(rows) < rng.choice([0.0, 0.1, 0.5, 1.0])
    return arrays


@pytest.mark.parametrize("terminate_on_end", [False, True])
def test_transitions_are_those_of_the_plain_loop_on_random_flags(terminate_on_end):
    rng = np.random.default_rng(0)
    for _ in range(3000):
        arrays = random_flags(rng)
        limit = int(rng.integers(1, 9))
        expected = plain_qlearning_dataset(arrays, limit, terminate_on_end)
        found = d4rl.qlearning_dataset(arrays, limit, terminate_on_end)
        assert found.keys() == expected.keys()
        for key, array in expected.items():
            assert np.array_equal(found[key], array), (key, limit, arrays)
            assert found[key].dtype == array.dtype
        assert np.array_equal(
            d4rl.episode_ends(
                found["observations"], found["next_observations"], found["terminals"]
            ),
            plain_episode_ends(
                found["observations"], found["next_observations"], found["terminals"]
            ),
        )


@pytest.mark.parametrize("name", GOLDEN)
def test_transitions_and_ends_are_those_of_the_published_code(shared, name):
    golden = np.load(shared / "golden" / f"qlearning_{name}.npz")
    arrays = {key[4:]: golden[key] for key in golden if key.startswith("raw/")}
    found = d4rl.qlearning_dataset(arrays, int(golden["max_episode_steps"]))
    for key, array in found.items():
        np.testing.assert_array_equal(array, golden[f"qlearning/{key}"])
        assert array.dtype == golden[f"qlearning/{key}"].dtype
    ends = d4rl.episode_ends(found["observations"], found["next_observations"], found["terminals"])
    np.testing.assert_array_equal(ends, golden["official/dones_float"] == 1)
    masks = 1 - found["terminals"].astype(np.float32)
    np.testing.assert_array_equal(masks, golden["official/masks"])


def test_an_episode_ends_beyond_a_gap_of_one_millionth():
    observations = np.zeros((5, 2), np.float32)
    following = np.zeros((5, 2), np.float32)
    following[1, 0] = 0.9e-6
    following[2, 1] = 1.1e-6
    terminals = np.array([True, False, False, False, False])
    ends = d4rl.episode_ends(observations, following, terminals)
    np.testing.assert_array_equal(ends, [True, False, True, False, True])
    np.testing.assert_array_equal(terminals, [True, False, False, False, False])


@pytest.mark.parametrize("with_timeouts", [True, False])
def test_a_million_rows_take_less_than_a_second_or_so(with_timeouts):
    rng = np.random.default_rng(0)
    rows = 1_000_000
    arrays = {
        "observations": rng.standard_normal((rows, 29), np.float32),
        "actions": np.zeros((rows, 8), np.float32),
        "rewards": np.zeros(rows, np.float32),
        "terminals": rng.random(rows) < 0.001,
    }
    if with_timeouts:
        arrays["timeouts"] = rng.random(rows) < 0.001
    times = []
    for _ in range(3):
        start = time.perf_counter()
        found = d4rl.qlearning_dataset(arrays, 1000)
        d4rl.episode_ends(found["observations"], found["next_observations"], found["terminals"])
        times.append(time.perf_counter() - start)
        del found
    assert min(times) < 2.0  # 0.2 to 0.6 s measured; a loop over rows takes 5


def family_layout(name, arrays):
    """Return the arrays as the files of that family store them."""
    arrays = dict(arrays)
    if name.startswith("antmaze"):
        return {key: arrays[key].astype(np.float64) for key in arrays} | {"infos/goal": np.ones(3)}
    if name.startswith(("kitchen", "door", "pen")):
        del arrays["timeouts"]
        arrays["rewards"] = arrays["rewards"][:, None]
        arrays["terminals"] = arrays["terminals"][:, None].astype(np.float32)
        return arrays
    if name.endswith("-v2"):
        arrays["next_observations"] = arrays["observations"] * 7  # D4RL does not use them
    return arrays | {"metadata/policy/weight": np.zeros((2, 2))}


@pytest.mark.parametrize("name", sorted(d4rl.datasets()))
def test_every_name_is_read_from_its_file(tmp_path, make_arrays, write_file, name):
    arrays = make_arrays(rows=20)
    file_name = d4rl.datasets()[name]["url"].rsplit("/", 1)[1]
    write_file(tmp_path / file_name, family_layout(name, arrays))
    raw = data.load(name, data_dir=tmp_path)
    assert raw.name == f"d4rl/{name}"
    assert raw.env_name == name
    assert raw.source == f"D4RL (Fu et al. 2020), {d4rl.datasets()[name]['url']}"
    np.testing.assert_array_equal(raw.observations, arrays["observations"][:-1])
    np.testing.assert_array_equal(raw.next_observations, arrays["observations"][1:])
    np.testing.assert_array_equal(raw.actions, arrays["actions"][:-1])
    np.testing.assert_array_equal(raw.rewards, arrays["rewards"][:-1])
    np.testing.assert_array_equal(raw.masks, 1 - arrays["terminals"][:-1])
    np.testing.assert_array_equal(np.flatnonzero(raw.ends), [9, 18])


def test_file_names_are_distinct():
    names = [entry["url"].rsplit("/", 1)[1] for entry in d4rl.datasets().values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "name, steps",
    [
        ("hopper-medium-v2", 1000),
        ("ant-random-expert-v0", 1000),
        ("antmaze-umaze-v0", 700),
        ("antmaze-umaze-diverse-v2", 700),
        ("antmaze-large-play-v2", 1000),
        ("maze2d-open-dense-v0", 150),
        ("maze2d-umaze-v1", 300),
        ("maze2d-eval-medium-dense-v1", 600),
        ("maze2d-large-v1", 800),
        ("pen-human-v1", 100),
        ("relocate-cloned-v1", 200),
        ("kitchen-mixed-v0", 280),
    ],
)
def test_time_limits(name, steps):
    assert name in d4rl.datasets()
    assert d4rl.max_episode_steps(name) == steps


def test_every_name_has_one_time_limit():
    assert all(d4rl.max_episode_steps(name) > 0 for name in d4rl.datasets())
    with pytest.raises(InputError, match="no time limit is known for 'kitten-mixed-v0'"):
        d4rl.max_episode_steps("kitten-mixed-v0")


def test_files_without_timeouts_are_cut_at_the_time_limit(tmp_path, make_arrays, write_file):
    arrays = make_arrays(rows=250)
    del arrays["timeouts"]
    arrays["terminals"][:] = False
    write_file(tmp_path / "pen-human-v1.hdf5", arrays)
    raw = data.load("pen-human-v1", data_dir=tmp_path)
    assert len(raw.rewards) == 249 - 2  # rows 99 and 199 are dropped
    np.testing.assert_array_equal(np.flatnonzero(raw.ends), [98, 197, 246])


def test_actions_are_clipped_to_what_the_environment_executes(tmp_path, make_arrays, write_file):
    arrays = make_arrays()
    arrays["actions"][3] = [1.5, -2.0]
    write_file(tmp_path / "pen-human-v1.hdf5", arrays)
    raw = data.load("d4rl/pen-human-v1", data_dir=tmp_path)
    np.testing.assert_array_equal(raw.actions[3], [1.0, -1.0])


def test_rows_that_make_no_transition_are_named(tmp_path, make_arrays, write_file):
    arrays = make_arrays()
    arrays["timeouts"][:] = True
    write_file(tmp_path / "pen-human-v1.hdf5", arrays)
    with pytest.raises(InputError, match=r"pen-human-v1.hdf5: none of its 12 rows makes a trans"):
        data.load("pen-human-v1", data_dir=tmp_path)


def test_the_data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("D4RL_DATASET_DIR", raising=False)
    assert str(d4rl.data_folder()) == "/home/someone/.d4rl/datasets"
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "elsewhere"))
    assert d4rl.data_folder() == tmp_path / "elsewhere"
    assert d4rl.data_folder(tmp_path) == tmp_path


def test_offline_the_message_says_how_to_go_on(monkeypatch, tmp_path):
    def no_network(*_, **__):
        import socket

        raise urllib.error.URLError(socket.gaierror(-2, "Name or service not known"))

    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    folder = tmp_path / "datasets"
    monkeypatch.setenv("D4RL_DATASET_DIR", str(folder))
    with pytest.raises(InputError) as caught:
        data.load("hopper-medium-v2")
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "'d4rl/hopper-medium-v2' needs the file 'hopper_medium-v2.hdf5'",
        f"looked for in '{folder}'",
        "gym_mujoco_v2/hopper_medium-v2.hdf5 failed: no connection to the server",
        "Put the file into that folder by hand",
        "D4RL_DATASET_DIR",
        "python train_offline.py --env_name=generated/antmaze-medium-play-v0",
    ):
        assert part in message
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match=r"looked for in '.*/file/datasets'.*Not a directory"):
        data.load("hopper-medium-v2", data_dir=tmp_path / "file" / "datasets")


def test_loading_takes_less_than_three_times_the_data(tmp_path, make_arrays, write_file):
    write_file(tmp_path / "pen-human-v1.hdf5", make_arrays(rows=100_000))
    tracemalloc.start()
    raw = data.load("pen-human-v1", data_dir=tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    size = sum(
        getattr(raw, field).nbytes
        for field in ("observations", "actions", "rewards", "masks", "next_observations", "ends")
    )
    assert peak < 3 * size
