"""Runs are killed, interrupted and starved of disk, and none is lost. `make fault` runs these.

Moments are random; the seed is printed with the tally, and FAULT_SEED=... draws the same again.
"""

import collections
import contextlib
import dataclasses
import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from iql_jax.data import generated
from iql_jax.data.raw import fingerprint
from iql_jax.errors import InputError
from iql_jax.training import loop, session
from iql_jax.training.members import Member
from iql_jax.training.offline import train_offline
from iql_jax.training.run_directory import RunOptions
from tests.training.small_runs import (
    MEMBERS,
    contents,
    differing,
    metrics,
    small_config,
    stored_arrays,
    write_data,
)

pytestmark = [
    pytest.mark.fault,
    # Orbax's threads are still at work when a disk that refuses has ended their event loop.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SEED = int(os.environ.get("FAULT_SEED", time.time_ns() % 100_000))


class Tally(collections.Counter):
    """What was done to runs, by name, and how they ended."""

    def __str__(self) -> str:
        kills = {name: n for name, n in self.items() if name.startswith("killed in ")}
        stops = {name: n for name, n in self.items() if name.startswith("stopped by ")}
        lines = [f"fault tally (FAULT_SEED={SEED})"]
        lines += [f"  {name:<36} {count}" for name, count in (kills | stops).items()]
        lines += [
            f"  kills {sum(kills.values())}, resumes {self['resumes']}, ends {self['ends']}, "
            f"of which bit-identical {self['identical']}, lost {self['ends'] - self['identical']}"
        ]
        return "\n".join(lines)


@pytest.fixture(scope="module")
def tally(request):
    """Counts; printed when the module is done."""
    counts = Tally()
    yield counts
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(f"\n{counts}", flush=True)


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(SEED)


# Processes killed at random moments of a phase.


@dataclasses.dataclass(frozen=True)
class Scenario:
    """A run to be killed.

    Attributes:
      script: the entry point.
      data: how the dataset differs from Pendulum's, for `write_data`.
      flags: all but the directory and the dataset. The run must be long enough to be killed in
        many places.
      kills: how many, by phase.
    """

    script: str
    data: dict[str, int]
    flags: tuple[str, ...]
    kills: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Phase:
    """Where kills fall.

    Attributes:
      name: as `fault_driver` announces it.
      latest: kills fall into the first to so-manieth of such phases of a process.
      seconds: and up to so long after its beginning.
    """

    name: str
    latest: int
    seconds: float


PHASES = (
    Phase("data", latest=1, seconds=0.5),
    Phase("training", latest=4, seconds=0.2),
    Phase("acting", latest=4, seconds=0.5),
    Phase("evaluation", latest=2, seconds=0.3),
    Phase("checkpointing", latest=4, seconds=0.1),
)
SHARED_FLAGS = (
    "--config.action_transform=rescale",
    "--config.observation_transform=standardize",
    "--config.reward_transform=none",
    "--config.hidden_dims=(16,16)",
    "--batch_size=16",
    "--num_seeds=2",
    "--log_interval=50",
    "--eval_interval=100",
    "--eval_episodes=2",
    "--wandb_mode=disabled",
)
SCENARIOS = {
    "offline": Scenario(
        script="train_offline.py",
        data={},
        flags=(
            "--config=configs/pointmaze.py",
            "--env_name=Pendulum-v1",
            "--max_steps=1500",
            "--checkpoint_seconds=0",
            *SHARED_FLAGS,
        ),
        kills={"data": 2, "training": 4, "evaluation": 4, "checkpointing": 4},
    ),
    "finetuning": Scenario(
        script="train_finetune.py",
        data={"observation_dim": 4, "action_dim": 2, "action_bound": 1},
        flags=(
            "--env_name=generated/pointmaze-umaze-v0",
            "--num_pretraining_steps=400",
            "--init_dataset_size=250",
            "--warmup_steps=10",
            "--max_steps=600",
            "--checkpoint_seconds=0.1",
            *SHARED_FLAGS,
        ),
        kills={"data": 1, "training": 2, "acting": 4, "evaluation": 3, "checkpointing": 3},
    ),
}
KILLS = [
    (name, phase) for name in SCENARIOS for phase in PHASES if phase.name in SCENARIOS[name].kills
]


class Process:
    """An entry point in a process of its own, with the phases it has begun."""

    def __init__(self, repository, scenario, run_dir, cache):
        reading, writing = os.pipe()
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.training.fault_driver", str(writing)),
                *(str(repository / scenario.script), *scenario.flags),
                *(f"--save_dir={run_dir}", "--resume=auto"),
            ],
            cwd=repository,
            env=os.environ | cache,
            pass_fds=[writing],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        os.close(writing)
        self._phases = os.fdopen(reading)

    def wait_for(self, phase, count=1):
        """Returns whether the process began `count` such phases before it ended."""
        for line in self._phases:
            count -= line.strip() == phase
            if count == 0:
                return True
        return False

    def end(self):
        """Returns the exit status and what was printed, once it has ended."""
        printed, _ = self.process.communicate(timeout=300)
        self._phases.close()
        return self.process.returncode, printed


@pytest.fixture(scope="module")
def scenarios(tmp_path_factory):
    """The scenarios by name, each with its dataset."""
    folder = tmp_path_factory.mktemp("data")
    found = {}
    for name, scenario in SCENARIOS.items():
        data = write_data(folder / f"{name}.npz", **scenario.data)
        found[name] = dataclasses.replace(scenario, flags=(*scenario.flags, f"--dataset={data}"))
    return found


@pytest.fixture
def scenario(scenarios, name):
    return scenarios[name]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Keeps compiled programs between processes; the first, which is not killed, fills it."""
    folder = tmp_path_factory.mktemp("compiled")
    return {
        "JAX_COMPILATION_CACHE_DIR": str(folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


@pytest.fixture(scope="module")
def undisturbed_runs():
    """What runs left that nothing happened to, by their scenario's name."""
    return {}


@pytest.fixture
def undisturbed(repository, name, scenario, cache, undisturbed_runs, tmp_path_factory):
    """What the run leaves that nothing happens to."""
    if name not in undisturbed_runs:
        run_dir = tmp_path_factory.mktemp("undisturbed") / "run"
        status, printed = Process(repository, scenario, run_dir, cache).end()
        assert status == 0, printed
        undisturbed_runs[name] = contents(run_dir)
    return undisturbed_runs[name]


def assert_identical(tally, run_dir, undisturbed):
    tally["ends"] += 1
    assert differing(contents(run_dir), undisturbed) == []
    tally["identical"] += 1


@pytest.mark.parametrize(
    ("name", "phase"), KILLS, ids=[f"{name}-{phase.name}" for name, phase in KILLS]
)
def test_killed_at_random_moments(
    repository, name, scenario, cache, undisturbed, tmp_path, tally, rng, phase
):
    wanted = scenario.kills[phase.name]
    kills = runs = 0
    while True:
        run_dir = tmp_path / f"run{runs}"
        process = Process(repository, scenario, run_dir, cache)
        tally["resumes"] += run_dir.exists()
        if kills < wanted:
            begun = process.wait_for(phase.name, int(rng.integers(1, phase.latest + 1)))
            if begun:
                time.sleep(rng.uniform(0, phase.seconds))
            process.process.kill()
        status, printed = process.end()
        if status == -signal.SIGKILL:
            kills += 1
            tally[f"killed in {name}: {phase.name}"] += 1
            continue
        assert status == 0, printed  # it came to its end before it was killed
        assert_identical(tally, run_dir, undisturbed)
        runs += 1
        if kills == wanted:
            return


@pytest.mark.parametrize("name", SCENARIOS)
def test_signals_save_tell_and_exit_with_their_status(
    repository, scenario, cache, undisturbed, tmp_path, tally, rng
):
    run_dir = tmp_path / "run"
    late = "acting" if "acting" in scenario.kills else "training"
    for number, phase in ((signal.SIGTERM, "training"), (signal.SIGINT, late)):
        process = Process(repository, scenario, run_dir, cache)
        assert process.wait_for(phase, int(rng.integers(1, 5)))
        process.process.send_signal(number)
        status, printed = process.end()
        assert status == 128 + number, printed
        assert f"{number.name}: saving what was reached" in printed
        tally[f"stopped by {number.name}"] += 1
        stop = re.search(rf"stopped by {number.name} at update ([\d,]+); the same", printed)
        update = int(stop[1].replace(",", ""))
        assert (run_dir / "checkpoints" / f"update_{update}").is_dir()
    process = Process(repository, scenario, run_dir, cache)
    status, printed = process.end()
    assert status == 0, printed
    assert f"resumed      at update {update:,}" in printed
    assert_identical(tally, run_dir, undisturbed)


# Data preparation.


def test_making_a_dataset_is_killed(repository, tmp_path, tally, rng):
    name, rows = "generated/pointmaze-umaze-v0", 30_000
    expected = fingerprint(generated.load_generated(name, tmp_path / "whole", num_transitions=rows))
    folder = tmp_path / "killed"
    final = folder / generated.file_name(name, rows, 0)
    command = [sys.executable, "-m", "iql_jax.data.generated", name]
    command += [f"--num_transitions={rows}", f"--data_dir={folder}"]
    kills = 0
    while kills < 3:
        final.unlink(missing_ok=True)
        process = subprocess.Popen(command, cwd=repository, stdout=subprocess.DEVNULL)
        while process.poll() is None and not list(folder.glob(".*.part")):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 1.0))
        process.kill()
        killed = process.wait() == -signal.SIGKILL
        kills += killed
        tally["killed in making data"] += killed
        tally["resumes"] += killed
        if final.is_file():  # then it is whole
            raw = generated.load_generated(name, folder, num_transitions=rows)
            assert fingerprint(raw) == expected
    subprocess.run(command, cwd=repository, check=True, stdout=subprocess.DEVNULL)
    tally["ends"] += 1
    raw = generated.load_generated(name, folder, num_transitions=rows)
    assert fingerprint(raw) == expected
    assert list(folder.glob(".*.part")) == []
    tally["identical"] += 1


CONTENT = np.random.default_rng(0).bytes(3_000_000)


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT; stops at the byte `pause_at` until the client is gone."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.pause_at, self.paused, self.go_on = len(CONTENT), threading.Event(), threading.Event()
        self.starts = []


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        asked = self.headers.get("Range")
        start = int(re.match(r"bytes=(\d+)-", asked)[1]) if asked else 0
        self.server.starts.append(start)
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.send_header("ETag", '"one"')
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(CONTENT[start : self.server.pause_at])
            self.wfile.flush()
            self.server.paused.set()
            if self.server.pause_at < len(CONTENT):
                self.server.go_on.wait(60)


def test_a_download_is_killed(repository, tmp_path, tally, rng):
    path = tmp_path / "file.bin"
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    code = "import sys, pathlib; from iql_jax.data.download import download; "
    code += "download(sys.argv[1], pathlib.Path(sys.argv[2]), progress=False)"
    command = [sys.executable, "-c", code, f"http://127.0.0.1:{server.server_port}/x", str(path)]
    try:
        for pause_at in sorted(rng.integers(300_000, len(CONTENT), 3).tolist()):
            server.pause_at = pause_at
            process = subprocess.Popen(command, cwd=repository)
            assert server.paused.wait(60)
            time.sleep(rng.uniform(0, 0.2))
            process.kill()
            assert process.wait() == -signal.SIGKILL
            server.go_on.set()
            tally["killed in a download"] += 1
            tally["resumes"] += 1
            server.paused.clear()
            server.go_on.clear()
        server.pause_at = len(CONTENT)
        subprocess.run(command, cwd=repository, check=True)
    finally:
        server.go_on.set()
        server.shutdown()
        thread.join()
        server.server_close()
    tally["ends"] += 1
    assert path.read_bytes() == CONTENT
    assert server.starts == sorted(server.starts)  # no byte on the disk is asked for again
    assert server.starts[-1] > 0
    tally["identical"] += 1


# Disks, damage and numbers that are not finite, in this process.


@pytest.fixture(autouse=True, scope="module")
def without_pictures():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session.pictures, "draw_run", lambda run_dir: [])
        yield


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("small") / "data.npz")


def train(config, run_dir, resume="never", members=MEMBERS, on_nan="stop"):
    options = RunOptions(
        str(run_dir), resume, evaluate=False, checkpoint_seconds=0.0, on_nan=on_nan
    )
    return train_offline(config, members, options)


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    assert train(small_config(dataset), run_dir) == 0
    return contents(run_dir)


@pytest.fixture
def at_update(monkeypatch):
    """Returns a function that lets something happen when so many updates are done."""
    chunk_length = loop.chunk_length

    def arrange(update, happen):
        def happening(setup, done):
            if done == update:
                happen()
            return chunk_length(setup, done)

        monkeypatch.setattr(loop, "chunk_length", happening)

    return arrange


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(path):
    """Writes to `path` until nothing more fits."""
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1024))


def test_a_full_disk_is_told_and_the_last_checkpoint_kept(dataset, whole, disk, at_update, tally):
    run_dir, ballast = disk / "run", disk / "ballast"
    at_update(60, lambda: fill(ballast))
    with pytest.raises(InputError) as caught:
        train(small_config(dataset), run_dir)
    told = str(caught.value)
    assert "No space left on device" in told and "\n" not in told
    assert re.search(r"resume", told)
    stored_arrays(run_dir)  # the newest there is can be read
    with pytest.raises(InputError, match="No space left on device"):
        train(small_config(dataset), run_dir, "must")
    ballast.unlink()
    at_update(-1, lambda: None)
    assert train(small_config(dataset), run_dir, "must") == 0
    assert_identical(tally, run_dir, whole)


def test_a_disk_that_turns_read_only_is_told(dataset, whole, disk, at_update, tally):
    run_dir = disk / "run"

    def remount(mode):
        subprocess.run(["mount", "-o", f"remount,{mode}", str(disk)], check=True)

    # Files open for writing keep a disk from turning read-only: a directory can still do so.
    at_update(60, lambda: bind_read_only(run_dir / "checkpoints"))
    try:
        with pytest.raises(InputError) as caught:
            train(small_config(dataset), run_dir)
    finally:
        subprocess.run(["umount", str(run_dir / "checkpoints")], check=True)
    assert "Read-only file system" in str(caught.value)
    assert re.search(r"update \d+ is the last good", str(caught.value))
    at_update(-1, lambda: None)
    remount("ro")
    with pytest.raises(InputError, match=r"cannot write .*: Read-only file system; "):
        train(small_config(dataset), run_dir, "must")
    with pytest.raises(
        InputError, match=r"cannot write into save directory .*: Read-only file sys"
    ):
        train(small_config(dataset), disk / "other")
    remount("rw")
    assert train(small_config(dataset), run_dir, "must") == 0
    assert_identical(tally, run_dir, whole)


def bind_read_only(folder):
    """Makes a folder read-only, whoever asks."""
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [truncate, flip, pathlib.Path.unlink], ids=lambda f: f.__name__)
def test_a_damaged_checkpoint_is_told_and_the_one_before_used(
    dataset, whole, tmp_path, at_update, capsys, tally, rng, damage
):
    run_dir = tmp_path / "run"
    at_update(60, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert train(small_config(dataset), run_dir) == 128 + signal.SIGTERM
    files = [path for path in (run_dir / "checkpoints" / "update_80").rglob("*") if path.is_file()]
    files = [path for path in files if path.stat().st_size]
    damage(files[rng.integers(len(files))])
    at_update(-1, lambda: None)
    capsys.readouterr()
    assert train(small_config(dataset), run_dir, "must") == 0
    told = capsys.readouterr().out
    assert "WARNING: damaged checkpoint, not used: " in told
    assert "WARNING: using the checkpoint of update 60 instead" in told
    assert "resumed      at update 60" in told
    assert_identical(tally, run_dir, whole)


BROKEN = Member(8, {"critic_lr": 1e30})


def test_numbers_that_are_not_finite_stop_the_run(dataset, tmp_path):
    run_dir = tmp_path / "run"
    with pytest.raises(InputError) as caught:
        train(small_config(dataset, log_interval=1), run_dir, members=[MEMBERS[0], BROKEN])
    told = str(caught.value)
    assert re.match(r"training of member 1 \(seed 8\) is not finite from update \d+ on; ", told)
    assert re.search("the last good checkpoint is (none yet|that of update 1);", told)
    assert "--on_nan=drop" in told
    if any((run_dir / "checkpoints").glob("update_*")):  # of before, huge as its numbers may be
        assert all(np.isfinite(array).all() for array in stored_arrays(run_dir).values())


def test_they_are_told_with_the_last_good_checkpoint(dataset, tmp_path, at_update, monkeypatch):
    run_dir = tmp_path / "run"
    add_metrics = loop.add_metrics
    calls = []

    def breaking(run, found, num_updates):
        calls.append(num_updates)
        if run.done.update >= 60:
            loop.drop_broken(run, np.array([-1, 63]))
        add_metrics(run, found, num_updates)

    monkeypatch.setattr(loop, "add_metrics", breaking)
    with pytest.raises(InputError) as caught:
        train(small_config(dataset), run_dir)
    told = re.search(
        r"member 1 \(seed 8\) is not finite from update 63 on; the last good checkpoint is that "
        r"of update (\d+);",
        str(caught.value),
    )
    assert 20 <= int(told[1]) <= 60 and (run_dir / "checkpoints" / f"update_{told[1]}").is_dir()
    monkeypatch.setattr(loop, "add_metrics", add_metrics)
    assert train(small_config(dataset), run_dir, "must") == 0


def test_other_members_go_on_where_asked(dataset, tmp_path, at_update, capfd, tally):
    members, config = [MEMBERS[0], BROKEN], small_config(dataset)
    assert train(config, tmp_path / "whole", members=members, on_nan="drop") == 0
    assert "member 1 (seed 8) is not finite" in capfd.readouterr().err
    assert {row["member"] for row in metrics(tmp_path / "whole")} == {0}
    at_update(60, lambda: os.kill(os.getpid(), signal.SIGTERM))
    run_dir = tmp_path / "run"
    assert train(config, run_dir, members=members, on_nan="drop") == 128 + signal.SIGTERM
    at_update(-1, lambda: None)
    assert train(config, run_dir, "must", members=members, on_nan="drop") == 0
    assert_identical(tally, run_dir, contents(tmp_path / "whole"))
    assert train(config, tmp_path / "alone", members=members[:1]) == 0
    alone = stored_arrays(tmp_path / "alone")
    for name, array in stored_arrays(run_dir).items():
        np.testing.assert_allclose(array[0], alone[name][0], rtol=1e-4, atol=1e-6)


def test_no_member_left_ends_the_run(dataset, tmp_path):
    with pytest.raises(InputError, match="no member's training is finite any more"):
        train(small_config(dataset), tmp_path / "run", members=[BROKEN], on_nan="drop")
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert record["dataset"]["rows"] == 300
    shutil.rmtree(tmp_path / "run")
