import subprocess
import sys

import pytest

from iql_jax import data
from iql_jax.errors import InputError, did_you_mean


def test_known_names_carry_their_prefix():
    names = data.known_names()
    assert "d4rl/hopper-medium-v2" in names
    assert "d4rl/antmaze-large-play-v2" in names
    assert "generated/pointmaze-medium-v0" in names
    assert len(set(names)) == len(names)
    assert all("/" in name for name in names)


@pytest.mark.parametrize(
    "name, message",
    [
        ("hoper-medium-v2", r"dataset 'hoper-medium-v2'; did you mean 'd4rl/hopper-medium-v2'\?"),
        ("pointmaze-medium-v0", r"; did you mean 'generated/pointmaze-medium-v0'\?"),
        ("antmaze-medium-pley-v0", r"; did you mean 'd4rl/antmaze-medium-play-v0'\?"),
        ("generated/antmaze-umaze", r"; did you mean 'generated/antmaze-umaze-v0'\?"),
        ("d4rl/hoper-medium-v2", r"unknown D4RL dataset .*; did you mean 'hopper-medium-v2'\?"),
        ("d4lr/hopper-medium-v2", r"; did you mean 'd4rl/hopper-medium-v2'\?"),
        ("", r"unknown dataset '' \(allowed: auctionnet/..., .*, or a bare D4RL"),
        ("data/mine.hdf5", r"a file of your own is named file/data/mine.hdf5"),
        ("Hopper-v4", r"unknown dataset 'Hopper-v4'"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(name, message):
    with pytest.raises(InputError, match=message):
        data.load(name)


def test_faults_of_the_loaded_data_are_found(tmp_path, make_arrays, write_file):
    arrays = make_arrays()
    arrays["terminals"][:] = True
    path = write_file(tmp_path / "mine.npz", arrays)
    with pytest.raises(InputError, match="'masks' is 0 in every row"):
        data.load(f"file/{path}")


def test_nothing_near_is_no_suggestion():
    assert did_you_mean("zzz", ["none", "standardize"]) == ""
    assert did_you_mean("standardise", ["none", "standardize"]) == "; did you mean 'standardize'?"


def test_naming_datasets_imports_no_optional_package():
    code = (
        "import sys, iql_jax.data as data; data.known_names();"
        "print([m for m in ('h5py', 'gymnasium', 'jax', 'tqdm', 'mujoco') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
