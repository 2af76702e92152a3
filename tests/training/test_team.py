"""Processes that train one population end as one process that trains all of it."""

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from iql_jax.config import OnlineConfig
from iql_jax.errors import InputError
from iql_jax.training import team
from iql_jax.training.run_directory import RunOptions
from iql_jax.training.team import Team
from tests.training.small_runs import contents, differing, evaluations, small_config, write_data

FLAGS = (
    "--env_name=Pendulum-v1",
    "--config.reward_transform=none",
    "--config.action_transform=rescale",
    "--config.hidden_dims=(8,8)",
    "--batch_size=8",
    "--log_interval=20",
    "--eval_interval=30",
    "--eval_episodes=2",
    "--num_seeds=4",
    "--wandb_mode=disabled",
)


class Runs:
    """Starts train_offline.py, in one process or several."""

    def __init__(self, repository, folder):
        self.folder = folder
        self._dataset = write_data(folder / "data.npz")
        self._script = repository / "train_offline.py"
        self._config = repository / "configs" / "pointmaze.py"

    def start(self, run_dir, *flags, num_processes=1):
        """Returns the processes."""
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            address = f"localhost:{probe.getsockname()[1]}"
        joining = (f"--coordinator_address={address}", f"--num_processes={num_processes}")
        return [
            subprocess.Popen(
                [
                    *(sys.executable, self._script, f"--config={self._config}"),
                    *(f"--dataset={self._dataset}", f"--save_dir={run_dir}", *FLAGS, *flags),
                    *((*joining, f"--process_id={index}") if num_processes > 1 else ()),
                ],
                cwd=self.folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for index in range(num_processes)
        ]

    def end(self, processes):
        """Returns the exit statuses, and what the first process said."""
        said = [process.communicate(timeout=120) for process in processes]
        followers = [line for out, _ in said[1:] for line in out.splitlines()]
        # The first speaks for all; Gloo, the library they exchange by, for itself.
        assert [line for line in followers if not line.startswith("[Gloo]")] == []
        return [process.returncode for process in processes], "".join(said[0])


@pytest.fixture(scope="module")
def runs(repository, tmp_path_factory):
    return Runs(repository, tmp_path_factory.mktemp("team"))


@pytest.mark.slow
def test_two_processes_train_one_population(runs, tmp_path):
    flags = ("--max_steps=100",)
    statuses, _ = runs.end(runs.start(tmp_path / "one", *flags))
    assert statuses == [0]
    statuses, said = runs.end(runs.start(tmp_path / "two", *flags, num_processes=2))
    assert statuses == [0, 0], said
    assert "4 x iql on 2 device(s)" in said or "4 x iql on 4 device(s)" in said
    assert len(evaluations(tmp_path / "two")) == 4 * 4
    assert differing(contents(tmp_path / "two"), contents(tmp_path / "one")) == []


@pytest.mark.slow
@pytest.mark.parametrize("resumed_by", [1, 2], ids="resumed by {}".format)
def test_a_signal_to_any_process_stops_all(runs, tmp_path, resumed_by):
    flags = ("--max_steps=400", "--eval_interval=200")
    assert runs.end(runs.start(tmp_path / "one", *flags))[0] == [0]
    processes = runs.start(tmp_path / "two", *flags, num_processes=2)
    metrics = tmp_path / "two" / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size):
        assert all(process.poll() is None for process in processes)
        time.sleep(0.01)
    processes[1].send_signal(signal.SIGTERM)
    statuses, said = runs.end(processes)
    assert statuses == 2 * [128 + signal.SIGTERM], said
    assert "stopped by SIGTERM" in said
    processes = runs.start(tmp_path / "two", *flags, "--resume", num_processes=resumed_by)
    statuses, said = runs.end(processes)
    assert statuses == resumed_by * [0], said
    assert differing(contents(tmp_path / "two"), contents(tmp_path / "one")) == []


@pytest.mark.slow
def test_all_refuse_what_one_refuses(runs, tmp_path):
    (tmp_path / "thesis.tex").touch()
    statuses, said = runs.end(runs.start(tmp_path, "--max_steps=20", num_processes=2))
    assert statuses == [2, 2]
    assert "is not empty and holds no run" in said
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_members_are_shared_evenly():
    assert [Team(index, 3).share(6) for index in range(3)] == [
        slice(0, 2),
        slice(2, 4),
        slice(4, 6),
    ]
    with pytest.raises(InputError, match=r"5 members for 2 processes: .* a multiple of 2"):
        Team(1, 2).share(5)


class Together(Team):
    """The second of two processes, of which the first says what it is told to."""

    first: object

    def exchange(self, value):
        return [type(self).first, value]


def test_arrays_are_of_all_members_in_order():
    Together.first = {"loss": np.arange(2)}
    gathered = Together(1, 2).gather({"loss": np.arange(5, 7)})
    np.testing.assert_array_equal(gathered["loss"], [0, 1, 5, 6])


def test_the_first_process_decides_for_all():
    Together.first = "runs/1"
    assert Together(1, 2).by_leader(lambda: pytest.fail("called")) == "runs/1"
    Together.first = InputError("no such run")
    with pytest.raises(InputError, match="no such run"):
        Together(1, 2).by_leader(lambda: None)
    with pytest.raises(InputError, match="mine"):
        Team().by_leader(refuse)


def refuse():
    raise InputError("mine")


def test_data_must_be_the_same_everywhere():
    class Loaded:
        dataset = {"name": "file/a.npz", "fingerprint": "02"}  # noqa: RUF012

    Together.first = "01"
    with pytest.raises(InputError, match=r"file/a.npz has the fingerprints 01, 02; copy one"):
        team.load_alike(Together(1, 2), Loaded)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("localhost:1", 2, 2), "process_id=2 of --num_processes=2, but .* from 0 to one below"),
        (("localhost:1", 0, 0), "num_processes=0"),
        (("localhost", 2, 0), "coordinator_address=localhost, but must be HOST:PORT"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        team.join(*arguments)


def test_what_runs_in_one_process_alone_is_refused(tmp_path):
    config = small_config("file/a.npz")
    with (
        contextlib.ExitStack() as stack,
        pytest.raises(InputError, match="several processes evaluate in place"),
    ):
        team.follow(Team(1, 2), config, RunOptions(evaluate_beside="always"), stack)
    config = dataclasses.replace(config, online=OnlineConfig())
    with (
        contextlib.ExitStack() as stack,
        pytest.raises(InputError, match="finetuning runs in one process"),
    ):
        team.follow(Team(1, 2), config, RunOptions(), stack)
