import numpy as np
import pytest

from iql_jax import data
from iql_jax.data import transforms
from iql_jax.errors import InputError


@pytest.mark.parametrize("suffix", [".hdf5", ".h5", ".npz"])
def test_without_next_observations_d4rls_rules_hold(tmp_path, make_arrays, write_file, suffix):
    arrays = make_arrays()
    arrays["timeouts"][8] = True
    path = write_file(tmp_path / f"mine{suffix}", arrays)
    raw = data.load(f"file/{path}")
    kept = [0, 1, 2, 3, 4, 5, 6, 7, 9, 10]
    np.testing.assert_array_equal(raw.observations, arrays["observations"][kept])
    np.testing.assert_array_equal(raw.next_observations, arrays["observations"][1:][kept])
    np.testing.assert_array_equal(raw.actions, arrays["actions"][kept])
    np.testing.assert_array_equal(raw.rewards, arrays["rewards"][kept])
    np.testing.assert_array_equal(raw.masks, [1, 1, 1, 1, 1, 0, 1, 1, 1, 1])
    np.testing.assert_array_equal(np.flatnonzero(raw.ends), [5, 7, 9])
    assert raw.name == f"file/{path}"
    assert raw.source == f"own file {path}"
    assert raw.env_name is None
    assert raw.extras["path"] == str(path)


@pytest.mark.parametrize("suffix", [".hdf5", ".npz"])
def test_with_next_observations_every_row_is_kept(tmp_path, make_arrays, write_file, suffix):
    arrays = make_arrays()
    following = np.roll(arrays["observations"], -1, axis=0)
    following[[5, 11]] += 1  # after a terminal and after a time limit the next row is a reset
    arrays["next_observations"] = following
    path = write_file(tmp_path / f"mine{suffix}", arrays)
    raw = data.load(f"file/{path}")
    np.testing.assert_array_equal(raw.observations, arrays["observations"])
    np.testing.assert_array_equal(raw.next_observations, following)
    np.testing.assert_array_equal(raw.rewards, arrays["rewards"])
    np.testing.assert_array_equal(raw.masks, 1 - arrays["terminals"])  # a time limit bootstraps
    np.testing.assert_array_equal(np.flatnonzero(raw.ends), [5, 11])


def test_a_time_limit_ends_an_episode_even_if_the_next_row_continues_it(
    tmp_path, make_arrays, write_file
):
    arrays = make_arrays()
    arrays["next_observations"] = np.roll(arrays["observations"], -1, axis=0)
    arrays["timeouts"][2] = True
    raw = data.load(f"file/{write_file(tmp_path / 'mine.npz', arrays)}")
    np.testing.assert_array_equal(np.flatnonzero(raw.ends), [2, 5, 11])


def test_without_timeouts_the_source_says_so(tmp_path, make_arrays, write_file):
    arrays = make_arrays()
    del arrays["timeouts"]
    path = write_file(tmp_path / "mine.npz", arrays)
    raw = data.load(f"file/{path}")
    assert raw.source == f"own file {path} (no 'timeouts': episodes end at terminals only)"
    np.testing.assert_array_equal(np.flatnonzero(raw.ends), [5, 10])


def test_paths_may_be_relative_absolute_or_in_a_home(
    tmp_path, monkeypatch, make_arrays, write_file
):
    (tmp_path / "sub").mkdir()
    path = write_file(tmp_path / "sub" / "mine.npz", make_arrays())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    prints = {
        data.raw.fingerprint(data.load(name))
        for name in ("file/sub/mine.npz", f"file/{path}", "file/~/sub/mine.npz")
    }
    assert f"file/{path}".startswith("file//")
    assert len(prints) == 1


def test_missing_files_are_named(tmp_path, monkeypatch, make_arrays, write_file):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        InputError, match=rf"nowhere.hdf5: no such file \(looked for at {tmp_path}/nowhere.hdf5\)"
    ):
        data.load("file/nowhere.hdf5")
    with pytest.raises(InputError, match="'file/' names no file; write file/<path>"):
        data.load("file/")
    path = write_file(tmp_path / "mine.npz", make_arrays())
    with pytest.raises(InputError, match=f"an absolute path has two slashes: file/{path}"):
        data.load(f"file{path}")


def test_what_the_file_says_of_itself_is_kept(tmp_path, make_arrays, write_file):
    import h5py

    path = write_file(tmp_path / "mine.hdf5", make_arrays())
    with h5py.File(path, "a") as file:
        file.create_group("metadata").attrs["note"] = "made by hand"
        file["metadata"].attrs["seed"] = np.int64(7)
        file["metadata"].attrs["offsets"] = np.arange(3)
    raw = data.load(f"file/{path}")
    assert raw.source == f"own file {path} (made by hand)"
    assert raw.extras["metadata"] == {"note": "made by hand", "seed": 7}


SAMPLES = {
    "hopper_medium_replay": (200_000, 11, 3),
    "halfcheetah_medium_expert": (200_000, 17, 6),
    "hopper_cs285_expert": (2_000, 11, 3),
    "door_human": (6_729 - 25, 39, 28),
    "pendulum_expert": (20_000 - 100, 3, 1),
}


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_real_files_load(shared, name):
    rows, observation_dim, action_dim = SAMPLES[name]
    raw = data.load(f"file/{shared / 'data' / name}.hdf5")
    assert raw.observations.shape == raw.next_observations.shape == (rows, observation_dim)
    assert raw.actions.shape == (rows, action_dim)
    assert len(transforms.episode_returns(raw)) == raw.ends.sum() > 1
    data.validate(raw, observation_dim, action_dim)


def test_every_real_file_is_in_the_list(shared):
    assert {path.stem for path in (shared / "data").glob("*.hdf5")} == set(SAMPLES)


def test_stored_next_observations_agree_with_the_next_rows(shared):
    raw = data.load(f"file/{shared}/data/hopper_medium_replay.hdf5")
    inside = ~raw.ends[:-1]
    np.testing.assert_array_equal(raw.next_observations[:-1][inside], raw.observations[1:][inside])
    assert (raw.masks == 0).sum() == 1956
    # Falls, and the eight places where another policy takes over.
    assert raw.ends.sum() == 1956 + 8


def test_torques_need_rescaling(shared):
    raw = data.load(f"file/{shared}/data/pendulum_expert.hdf5")
    with pytest.raises(InputError, match=r"'actions' row \d+, dimension 0 .*transform=rescale"):
        transforms.fit_action("none", raw)
    transform = transforms.fit_action("rescale", raw, np.array([-2.0]), np.array([2.0]))
    unit = transform.to_unit(raw.actions)
    np.testing.assert_allclose(unit, raw.actions / 2, atol=2e-5)
    np.testing.assert_allclose(transform.to_env(unit), raw.actions, atol=3e-5)


def test_a_folder_is_all_its_files_one_after_another(tmp_path, make_arrays, write_file):
    parts = [make_arrays(), make_arrays()]
    parts[1]["rewards"] = parts[1]["rewards"] + 1
    write_file(tmp_path / "b.npz", parts[1])
    write_file(tmp_path / "a.hdf5", parts[0])
    (tmp_path / "notes.txt").write_text("not data")
    raw = data.load(f"file/{tmp_path}")
    alone = [data.load(f"file/{tmp_path}/{name}") for name in ("a.hdf5", "b.npz")]
    for field in ("observations", "actions", "rewards", "masks", "next_observations", "ends"):
        expected = np.concatenate([getattr(one, field) for one in alone])
        np.testing.assert_array_equal(getattr(raw, field), expected)
    assert raw.source == f"own files, 2 in {tmp_path}"
    assert raw.extras["files"] == ["a.hdf5", "b.npz"]


def test_a_folder_of_two_environments_is_refused(tmp_path, make_arrays, write_file):
    write_file(tmp_path / "a.npz", make_arrays())
    other = make_arrays()
    other["observations"] = other["observations"][:, :2]
    write_file(tmp_path / "b.npz", other)
    with pytest.raises(InputError, match=r"b.npz: 'observations' has 2 numbers per row but a.npz"):
        data.load(f"file/{tmp_path}")


def test_a_folder_without_data_is_refused(tmp_path):
    with pytest.raises(InputError, match="this one has none"):
        data.load(f"file/{tmp_path}")


@pytest.mark.parametrize(("num_actions", "width"), [(None, 3), (5, 5)])
def test_integer_actions_are_choices(tmp_path, make_arrays, write_file, num_actions, width):
    arrays = make_arrays()
    arrays["actions"] = np.arange(len(arrays["rewards"])) % 3
    if num_actions is not None:
        arrays["num_actions"] = np.array(num_actions)
    raw = data.load(f"file/{write_file(tmp_path / 'mine.npz', arrays)}")
    assert raw.actions.shape[1] == width
    np.testing.assert_array_equal(raw.actions.argmax(axis=1), np.arange(len(raw.actions)) % 3)
    np.testing.assert_array_equal(raw.actions.sum(axis=1), 1)


def test_a_choice_beyond_their_number_is_named(tmp_path, make_arrays, write_file):
    arrays = make_arrays() | {"num_actions": np.array(2)}
    arrays["actions"] = np.zeros(len(arrays["rewards"]), np.int64)
    arrays["actions"][3] = 2
    with pytest.raises(InputError, match="'actions' row 3 is choice 2, but choices are 0 to 1"):
        data.load(f"file/{write_file(tmp_path / 'mine.npz', arrays)}")
