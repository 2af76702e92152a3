"""Small datasets in D4RL's layout, as arrays and as files."""

import pathlib

import h5py
import numpy as np
import pytest

from iql_jax.data.raw import RawDataset


def make_arrays(rows: int = 12, seed: int = 0) -> dict[str, np.ndarray]:
    """Return `rows` steps of random episodes: one terminal in the middle, a timeout at the end."""
    rng = np.random.default_rng(seed)
    terminals = np.zeros(rows, np.bool_)
    timeouts = np.zeros(rows, np.bool_)
    terminals[rows // 2 - 1] = True
    timeouts[-1] = True
    return {
        "observations": rng.standard_normal((rows, 3), np.float32),
        "actions": rng.uniform(-1, 1, (rows, 2)).astype(np.float32),
        "rewards": rng.standard_normal(rows, np.float32),
        "terminals": terminals,
        "timeouts": timeouts,
    }


def write_file(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> pathlib.Path:
    """Write `arrays` as the ending of `path` says and return `path`."""
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for key, array in arrays.items():
                file[key] = array
    return path


def make_dataset(rows: int = 12, seed: int = 0, **changes) -> RawDataset:
    """Return a valid `RawDataset` of two episodes, with fields changed by name."""
    arrays = make_arrays(rows, seed)
    fields = {
        "name": "test/small",
        "source": "random numbers",
        "observations": arrays["observations"],
        "actions": arrays["actions"],
        "rewards": arrays["rewards"],
        "masks": 1.0 - arrays["terminals"].astype(np.float32),
        "next_observations": np.roll(arrays["observations"], -1, axis=0),
        "ends": arrays["terminals"] | arrays["timeouts"],
    }
    return RawDataset(**{**fields, **changes})


@pytest.fixture(name="make_arrays")
def make_arrays_fixture():
    return make_arrays


@pytest.fixture(name="write_file")
def write_file_fixture():
    return write_file


@pytest.fixture(name="make_dataset")
def make_dataset_fixture():
    return make_dataset
