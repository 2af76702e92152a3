"""What is recorded of a run, and that gathering it never fails where git or files are missing."""

import dataclasses
import json
import pathlib
import subprocess

import numpy as np
import pytest

from iql_jax.report import records

DATASET = {"name": "generated/maze-v0", "source": "made here", "rows": 5, "fingerprint": "ab"}


@dataclasses.dataclass(frozen=True)
class Transform:
    name: str
    mean: np.ndarray


def test_a_record_names_versions_data_devices_and_precision():
    transforms = {"observations": Transform("standardize", np.float32([1.5, 2.0]))}
    record = records.collect_record(
        dataset=DATASET, transforms=transforms, env_name="maze-v0", command=["train", "a b"]
    )
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["dataset"] == DATASET
    assert record["transforms"]["observations"] == {"name": "standardize", "mean": [1.5, 2.0]}
    assert record["command"] == "train 'a b'"
    assert record["matmul_precision"] == "float32"  # set for all tests
    assert record["device_count"] >= 1
    assert record["cpu_cores"] >= 1
    for package in ("python", "iql_jax", "jax", "jaxlib", "flax", "optax", "mujoco", "numpy"):
        assert record["versions"][package], package
    assert record["start_time_utc"].endswith("+00:00")


def test_git_state_is_the_commit_of_the_checkout_itself(tmp_path):
    def git(*arguments):
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
        return subprocess.run([*command, *arguments], check=True, capture_output=True, text=True)

    assert records.git_state(tmp_path) is None  # no checkout
    git("init", "-q")
    assert records.git_state(tmp_path) is None  # no commit
    results = tmp_path / "benchmarks" / "results" / "some.json"
    results.parent.mkdir(parents=True)
    results.write_text("{}")
    (tmp_path / "file").write_text("1")
    git("add", "file", str(results))
    git("commit", "-q", "-m", "x")
    commit = git("rev-parse", "HEAD").stdout.strip()
    assert records.git_state(tmp_path) == {"commit": commit, "modified": False}
    results.write_text("{1}")  # a benchmark before
    assert records.git_state(tmp_path) == {"commit": commit, "modified": False}
    (tmp_path / "file").write_text("2")
    assert records.git_state(tmp_path) == {"commit": commit, "modified": True}
    (tmp_path / "site-packages").mkdir()
    assert records.git_state(tmp_path / "site-packages") is None  # somebody else's checkout


def test_git_state_without_git(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert records.git_state(tmp_path) is None


def test_json_holds_configurations_and_refuses_the_rest():
    value = {"a": (1, np.float32(0.5)), "b": pathlib.Path("x/y"), 3: float("inf"), "c": {True}}
    assert records.to_json(value) == {"a": [1, 0.5], "b": "x/y", "3": None, "c": [True]}
    with pytest.raises(TypeError, match="cannot write object"):
        records.to_json({"a": object()})


def test_a_resume_adds_what_changed_and_keeps_the_first_record(tmp_path):
    first = {"start_time_utc": "monday", "versions": {"jax": "1"}, "cpu_cores": 2}
    records.write_record(tmp_path, first)
    again = {"start_time_utc": "tuesday", "versions": {"jax": "1"}, "cpu_cores": 2}
    records.write_record(tmp_path, again, resumed_at=100)
    records.write_record(tmp_path, again | {"cpu_cores": 4}, resumed_at=200)
    assert json.loads((tmp_path / "record.json").read_text()) == first | {
        "resumes": [
            {"update": 100, "start_time_utc": "tuesday"},
            {"update": 200, "start_time_utc": "tuesday", "cpu_cores": 4},
        ]
    }


def test_config_file_holds_config_and_flags(tmp_path):
    records.write_config(tmp_path, {"expectile": 0.9, "dims": (256, 256)}, {"seed": 1})
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "config": {"expectile": 0.9, "dims": [256, 256]},
        "flags": {"seed": 1},
    }


@pytest.mark.parametrize(
    ("record", "wanted"),
    [
        ({"cpu_model": "A", "cpu_cores": 2, "device_platform": "cpu"}, "A, 2 cores"),
        (
            {
                "cpu_model": "A",
                "cpu_cores": 1,
                "device_platform": "gpu",
                "device_kind": "H",
                "device_count": 4,
            },
            "4 x H (A, 1 core)",
        ),
    ],
)
def test_hardware_in_words(record, wanted):
    assert records.hardware_line(record) == wanted
