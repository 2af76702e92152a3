import h5py
import numpy as np
import pytest

from iql_jax.data import reader
from iql_jax.errors import InputError

SUFFIXES = [".hdf5", ".h5", ".npz"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_arrays_come_as_they_were_written(tmp_path, make_arrays, write_file, suffix):
    arrays = make_arrays()
    found = reader.read_arrays(write_file(tmp_path / f"a{suffix}", arrays))
    assert found.keys() == arrays.keys()
    for key, array in arrays.items():
        np.testing.assert_array_equal(found[key], array)
        assert found[key].dtype == array.dtype


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_columns_wider_types_and_number_flags_are_understood(
    tmp_path, make_arrays, write_file, suffix
):
    arrays = make_arrays()
    stored = {
        "observations": arrays["observations"].astype(np.float64) + 1e-12,
        "actions": np.arange(24, dtype=np.int16).reshape(12, 2),
        "rewards": arrays["rewards"].astype(">f8")[:, None],
        "terminals": arrays["terminals"].astype(np.float32)[:, None],
        "timeouts": arrays["timeouts"].astype(np.uint8),
    }
    found = reader.read_arrays(write_file(tmp_path / f"a{suffix}", stored))
    np.testing.assert_array_equal(found["observations"], stored["observations"].astype(np.float32))
    np.testing.assert_array_equal(found["actions"], stored["actions"])
    np.testing.assert_array_equal(found["rewards"], arrays["rewards"])
    np.testing.assert_array_equal(found["terminals"], arrays["terminals"])
    np.testing.assert_array_equal(found["timeouts"], arrays["timeouts"])
    assert {str(array.dtype) for array in found.values()} == {"float32", "bool"}


def test_other_keys_and_groups_stay_in_the_file(tmp_path, make_arrays, write_file):
    arrays = make_arrays()
    extra = {
        "infos/qpos": np.full((3, 5), np.nan),
        "infos/goal": np.zeros((2, 2)),
        "metadata/policy/fc0/weight": np.zeros((4, 4)),
        "metadata/algorithm": np.bytes_("SAC"),
    }
    path = write_file(tmp_path / "a.hdf5", {**arrays, **extra})
    assert reader.read_arrays(path).keys() == arrays.keys()


def test_optional_keys_are_read_on_request(tmp_path, make_arrays, write_file):
    arrays = make_arrays()
    arrays["next_observations"] = arrays["observations"] + 1
    path = write_file(tmp_path / "a.hdf5", arrays)
    assert "next_observations" in reader.read_arrays(path)
    assert "next_observations" not in reader.read_arrays(path, optional=("timeouts",))


def broken(key, value):
    return lambda arrays: {**arrays, key: value(arrays[key])}


def put(index, value):
    def change(array):
        array = array.copy()
        array[index] = value
        return array

    return change


FAULTS = [
    (
        lambda a: {k: a[k] for k in ("observations", "actions", "timeouts")},
        "missing 'rewards', 'terminals'; needed are 'observations', 'actions', 'rewards', "
        "'terminals', optional 'timeouts', 'next_observations', found are 'actions', "
        "'observations', 'timeouts'",
    ),
    (lambda a: {}, "missing 'observations', 'actions', 'rewards', 'terminals'"),
    (
        broken("rewards", lambda a: a[:-3]),
        "'rewards' has 9 rows but 'observations' has 12; every key must have one row per step",
    ),
    (broken("timeouts", lambda a: a[:5]), "'timeouts' has 5 rows but 'observations' has 12"),
    (
        broken("observations", put((3, 2), np.nan)),
        "'observations' row 3, dimension 2, is nan; every number must be finite",
    ),
    (broken("actions", put((0, 1), -np.inf)), "'actions' row 0, dimension 1, is -inf"),
    (broken("rewards", put(11, np.nan)), "'rewards' row 11 is nan"),
    (
        broken("rewards", lambda a: put(4, 1e300)(a.astype(np.float64))),
        "'rewards' row 4 is inf; every number must be finite (and fit in float32)",
    ),
    (
        broken("terminals", lambda a: put(6, 2.0)(a.astype(np.float32))),
        "'terminals' row 6 is 2, but must be 0 (or False) or 1 (or True)",
    ),
    (
        broken("timeouts", lambda a: put(2, np.nan)(a.astype(np.float32))),
        "'timeouts' row 2 is nan, but must be 0",
    ),
    (
        broken("observations", lambda a: a[:, 0]),
        "'observations' has shape (12,), but must be (rows, numbers per row); flatten each row",
    ),
    (broken("observations", lambda a: a[:, None]), "'observations' has shape (12, 1, 3), but"),
    (
        broken("rewards", lambda a: np.stack([a, a], axis=1)),
        "'rewards' has shape (12, 2), but must be (rows,) or (rows, 1)",
    ),
    (broken("rewards", lambda a: np.float32(3.0)), "'rewards' has shape (), but must be (rows,)"),
    (
        broken("actions", lambda a: np.full(a.shape, b"left")),
        "'actions' is of type |S4, but must be numbers; store it as float32",
    ),
    (broken("actions", lambda a: a.astype(np.complex64)), "'actions' is of type complex64"),
    (lambda a: {k: v[:0] for k, v in a.items()}, "'observations' has no rows; nothing can be"),
    (
        lambda a: {**a, "next_observations": a["observations"][:, :2]},
        "'next_observations' has 2 numbers per row but 'observations' has 3; they must agree",
    ),
    (
        lambda a: {**a, "next_observations": put((9, 0), np.nan)(a["observations"])},
        "'next_observations' row 9, dimension 0, is nan",
    ),
]


@pytest.mark.parametrize("suffix", [".hdf5", ".npz"])
@pytest.mark.parametrize("change, message", FAULTS)
def test_each_fault_names_file_key_and_row(
    tmp_path, make_arrays, write_file, suffix, change, message
):
    path = write_file(tmp_path / f"broken{suffix}", change(make_arrays()))
    with pytest.raises(InputError) as caught:
        reader.read_arrays(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_a_group_in_place_of_an_array_is_named(tmp_path, make_arrays, write_file):
    arrays = make_arrays()
    arrays["observations/position"] = arrays.pop("observations")
    path = write_file(tmp_path / "nested.hdf5", arrays)
    with pytest.raises(
        InputError, match=r"nested.hdf5: 'observations' is a group, but must be one array"
    ):
        reader.read_arrays(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_short_is_named(tmp_path, make_arrays, write_file, suffix, share):
    path = write_file(tmp_path / f"cut{suffix}", make_arrays(rows=2000))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    kind = "NPZ" if suffix == ".npz" else "HDF5"
    with pytest.raises(InputError) as caught:
        reader.read_arrays(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: cannot be read as {kind} ({path.stat().st_size} bytes): ")
    assert message.endswith("; it is damaged or cut short: delete it and download or make it again")
    assert "\n" not in message


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_another_kind_of_file_is_named(tmp_path, suffix):
    path = tmp_path / f"page{suffix}"
    path.write_text("<html>404</html>")
    with pytest.raises(InputError, match="cannot be read as"):
        reader.read_arrays(path)


def test_damage_in_the_middle_of_compressed_rows_is_named(tmp_path, make_arrays):
    arrays = make_arrays(rows=2000)
    path = tmp_path / "damaged.hdf5"
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            file.create_dataset(key, data=array, compression="gzip", chunks=True)
        chunk = file["observations"].id.get_chunk_info(0)
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset + chunk.size // 2)
        file.write(b"\xff" * 64)
    with pytest.raises(InputError, match=r"damaged.hdf5: cannot be read as HDF5"):
        reader.read_arrays(path)


def test_damage_in_an_npz_member_is_named(tmp_path, make_arrays):
    path = tmp_path / "damaged.npz"
    np.savez_compressed(path, **make_arrays(rows=2000))
    content = bytearray(path.read_bytes())
    content[2000:2064] = b"\xff" * 64
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"damaged.npz: cannot be read as NPZ"):
        reader.read_arrays(path)


def test_pickled_objects_are_refused(tmp_path, make_arrays):
    arrays = make_arrays()
    path = tmp_path / "objects.npz"
    np.savez(path, **{**arrays, "actions": np.array([{"a": 1}] * 12, dtype=object)})
    with pytest.raises(InputError, match=r"objects.npz: cannot be read as NPZ"):
        reader.read_arrays(path)


def test_a_bare_array_is_named(tmp_path):
    path = tmp_path / "bare.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(InputError, match="it holds one bare array, not named arrays"):
        reader.read_arrays(path)


def test_a_missing_file_a_folder_and_an_unknown_ending_are_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.hdf5: no such file \(looked for at "):
        reader.read_arrays(tmp_path / "nowhere.hdf5")
    (tmp_path / "folder.hdf5").mkdir()
    with pytest.raises(InputError, match=r"folder.hdf5: is a folder, not a file"):
        reader.read_arrays(tmp_path / "folder.hdf5")
    with pytest.raises(InputError, match=r"ends in .hdf5 or .h5 or .npz, this one in '.csv'"):
        reader.read_arrays(tmp_path / "table.csv")


@pytest.mark.parametrize("suffix", [".hdf5", ".npz"])
def test_random_damage_never_ends_in_a_traceback(tmp_path, make_arrays, write_file, suffix):
    path = write_file(tmp_path / f"damaged{suffix}", make_arrays(rows=30))
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        for place in rng.integers(len(content), size=4):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            reader.read_arrays(path)
        except InputError as error:
            assert str(error).startswith(str(path))
            assert "\n" not in str(error)
            refused += 1
    assert refused > 50
