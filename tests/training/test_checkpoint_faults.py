"""Checkpoints survive kills and disks that refuse; what is lost is the one being saved."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from iql_jax.errors import InputError
from iql_jax.training import stored_arrays
from iql_jax.training.checkpoint import Checkpoints


@pytest.fixture
def said():
    return []


@pytest.fixture
def checkpoints(tmp_path, said):
    with Checkpoints(tmp_path / "checkpoints", say=said.append) as opened:
        yield opened


def assert_restores(checkpoints, expected, update=None):
    restored = checkpoints.restore(expected, update).arrays
    jax.tree.map(np.testing.assert_array_equal, restored, expected)


# A disk that refuses.


def full_disk(path, arrays):
    path.mkdir()
    (path / "half").write_text("half of it")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def test_a_failure_is_raised_by_whatever_comes_next(tmp_path, said, monkeypatch):
    checkpoints = Checkpoints(tmp_path / "checkpoints", say=said.append)
    checkpoints.save(1, {"x": np.array([1])}, {}, wait=True)
    monkeypatch.setattr(stored_arrays, "write", full_disk)
    template = {"x": np.array([0])}
    for raises_it in (
        checkpoints.wait,
        lambda: checkpoints.save(3, template, {}),
        lambda: checkpoints.restore(template),
        checkpoints.close,
    ):
        checkpoints.save(2, template, {})
        with pytest.raises(InputError) as caught:
            raises_it()
        assert str(caught.value) == (
            f"cannot save the checkpoint of update 2 in {tmp_path}/checkpoints: No space left on "
            "device; update 1 is the last good; make room there or make it writable, then resume"
        )
        checkpoints.wait()  # it is raised once
    assert os.listdir(tmp_path / "checkpoints") == ["update_1"]


def test_a_failure_does_not_hide_what_ended_the_run(tmp_path, said, monkeypatch):
    monkeypatch.setattr(stored_arrays, "write", full_disk)
    with (
        pytest.raises(KeyError, match="the real reason"),
        Checkpoints(tmp_path / "checkpoints", say=said.append) as checkpoints,
    ):
        checkpoints.save(1, {"x": np.ones(1)}, {})
        raise KeyError("the real reason")
    assert "No space left on device; there is none before it" in said[0]


def test_a_fault_of_ours_is_not_blamed_on_the_disk(checkpoints, monkeypatch):
    def broken(path, arrays):
        raise ValueError("a fault of ours")

    monkeypatch.setattr(stored_arrays, "write", broken)
    with pytest.raises(ValueError, match="a fault of ours") as caught:
        checkpoints.save(1, {"x": np.ones(1)}, {}, wait=True)
    assert not isinstance(caught.value, InputError)


def test_a_file_in_place_of_the_directory(tmp_path, said):
    (tmp_path / "checkpoints").write_text("")
    with Checkpoints(tmp_path / "checkpoints", say=said.append) as checkpoints:
        with pytest.raises(InputError, match=r"update 1 in .*/checkpoints: File exists"):
            checkpoints.save(1, {"x": np.ones(1)}, {})
        with pytest.raises(InputError, match=r"cannot be listed: Not a directory"):
            checkpoints.restore({"x": np.ones(1)})
    (tmp_path / "checkpoints").rename(tmp_path / "file")
    below = Checkpoints(tmp_path / "file" / "below", say=said.append)
    with below, pytest.raises(InputError, match=r"file/below: Not a directory"):
        below.save(1, {"x": np.ones(1)}, {})


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(options, capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here (needs root)")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_leaves_the_last_good_checkpoint(small_disk, said):
    small, large = {"x": np.arange(1000)}, {"x": np.random.default_rng(0).normal(size=10**6)}
    with Checkpoints(small_disk / "checkpoints", say=said.append) as checkpoints:
        checkpoints.save(1, small, {})
        checkpoints.save(2, large, {})
        with pytest.raises(InputError, match="No space left on device; update 1 is the last good"):
            checkpoints.wait()
        assert os.listdir(small_disk / "checkpoints") == ["update_1"]
        assert_restores(checkpoints, small)
        checkpoints.save(3, small, {})  # once there is room, it goes on
        assert_restores(checkpoints, small, update=3)
    assert said == []


def test_a_disk_turned_read_only_leaves_the_last_good_checkpoint(small_disk, said):
    small = {"x": np.arange(1000)}
    with Checkpoints(small_disk / "checkpoints", say=said.append) as checkpoints:
        checkpoints.save(1, small, {}, wait=True)
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
        checkpoints.save(2, small, {})
        with pytest.raises(InputError, match="Read-only file system; update 1 is the last good"):
            checkpoints.wait()
        assert_restores(checkpoints, small)


# SIGKILL.

SAVING = """
import os, signal, sys
from pathlib import Path
import numpy as np
from iql_jax.training.checkpoint import Checkpoints

directory, event, within = sys.argv[1:]

def kill(name, args):
    if name == event and within in str(args[0]):
        os.kill(os.getpid(), signal.SIGKILL)

if event:
    sys.addaudithook(kill)
with Checkpoints(Path(directory), say=print) as checkpoints:
    template = {"x": np.zeros((300, 300)), "y": [np.zeros(i + 1) for i in range(10)]}
    update = checkpoints.latest() and checkpoints.restore(template).update or 0
    while True:
        update += 1
        arrays = {"x": template["x"] + update, "y": [y + update for y in template["y"]]}
        checkpoints.save(update, arrays, {"update": update}, score=-abs(update - 4))
        print(update - 1, flush=True)  # now known to be safe
"""


def start_saving(repository, directory, event="", within=""):
    command = [sys.executable, "-c", SAVING, str(directory), event, within]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=repository, env=environment, **pipes)


def assert_killed_without_loss(process, directory, safe=0):
    """Checks a killed process' directory, and returns the update that it restores to."""
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, stderr
    lines = stdout.split()
    safe = int(lines[-1]) if lines else safe
    template = {"x": np.zeros((300, 300)), "y": [np.zeros(i + 1) for i in range(10)]}
    said = []
    with Checkpoints(directory, say=said.append) as checkpoints:
        restored = checkpoints.restore(template)
        assert restored.update >= safe
        for leaf in jax.tree.leaves(restored.arrays):
            np.testing.assert_array_equal(leaf, np.full_like(leaf, restored.update))
        assert restored.host == {"update": restored.update}
        for update in checkpoints.all():
            assert checkpoints.restore(template, update).host == {"update": update}
    assert said == []
    return restored.update


def test_a_kill_at_any_moment_leaves_whole_checkpoints(tmp_path, repository):
    rng = np.random.default_rng()
    directories = [tmp_path / "a", tmp_path / "b"]
    safe = dict.fromkeys(directories, 0)
    for _ in range(3):
        processes = [start_saving(repository, directory) for directory in directories]
        for process in processes:
            for _ in range(rng.integers(2, 7)):
                assert process.stdout.readline(), process.stderr.read()
            time.sleep(rng.uniform(0, 0.08))  # about the time that one save takes
            process.kill()
        for process, directory in zip(processes, directories, strict=True):
            safe[directory] = assert_killed_without_loss(process, directory, safe[directory])


def test_a_kill_at_the_worst_moments_leaves_whole_checkpoints(tmp_path, repository):
    moments = {
        "before the manifest": ("open", ".saving_update_4/manifest.json", 3),
        "before the commit": ("os.rename", ".saving_update_4", 3),
        "after the commit": ("os.rename", "/update_2", 4),
        "within the removal": ("shutil.rmtree", ".removed_update_2", 4),
    }
    for two in (list(moments)[:2], list(moments)[2:]):
        processes = {
            name: start_saving(repository, tmp_path / name, *moments[name][:2]) for name in two
        }
        for name, process in processes.items():
            assert assert_killed_without_loss(process, tmp_path / name) == moments[name][2]
