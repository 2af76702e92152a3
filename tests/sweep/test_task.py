"""One run of a sweep without Ray: its log, how it ended, its cores, and whose end ends it."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from iql_jax.sweep import task
from iql_jax.sweep.grid import Job
from iql_jax.sweep.task import run_job
from tests.sweep.waiting import wait_for

STAND_IN = pathlib.Path(__file__).with_name("stand_in.py")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for cores and deaths")


@pytest.fixture
def job_of(tmp_path, finished_run, monkeypatch):
    """Makes a job of the stand-in; locks on cores are this test's alone."""
    monkeypatch.setattr(task.tempfile, "gettempdir", lambda: str(tmp_path))

    def make(what):
        flags = (f"--config={what}.py", f"--finished_run={finished_run}")
        return Job(f"maze/{what}", tmp_path / "runs", STAND_IN, flags)

    return make


def test_a_run_that_finishes(job_of, tmp_path):
    job = job_of("quick")
    outcome = run_job(job, str(tmp_path), 1, 0)
    assert outcome.finished and outcome.message == ""
    command, output = job.log.read_text().splitlines()
    assert command.startswith(f"$ python {STAND_IN} --config=quick.py --finished_run=")
    assert command.endswith(f"--save_dir={job.run_dir} --resume=auto")
    assert output == f"quick on cores {min(os.sched_getaffinity(0))}"


def test_the_error_of_a_run_that_fails_is_told_and_the_log_grows(job_of, tmp_path):
    job = job_of("bad")
    for attempt in (1, 2):
        outcome = run_job(job, str(tmp_path), 0, 0)
        assert not outcome.finished
        assert outcome.message == "exit status 2; error: no such data"
        assert job.log.read_text().count("$ python") == attempt


def test_a_run_that_ends_well_without_its_results_did_not_finish(job_of, tmp_path, monkeypatch):
    monkeypatch.setattr(task, "is_finished", lambda run_dir: False)
    assert run_job(job_of("quick"), str(tmp_path), 0, 0).message.startswith("exit status 0; quick")


def test_what_cannot_be_started_is_told(job_of, tmp_path):
    outcome = run_job(job_of("quick"), str(tmp_path / "nowhere"), 0, 0)
    assert "cannot be started" in outcome.message and "nowhere" in outcome.message


def test_a_cancelled_run_saves(job_of, tmp_path, monkeypatch):
    job = job_of("slow")

    def cancelled(seconds):
        wait_for((job.run_dir / "pid").exists)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(task.time, "sleep", cancelled)
        outcome = run_job(job, str(tmp_path), 0, 0)
    assert outcome.message == "exit status 143; stopped by SIGTERM"
    assert (job.run_dir / "begun").exists()
    assert run_job(job, str(tmp_path), 0, 0).finished


def test_a_killed_run_is_told_from_one_that_fails(job_of, tmp_path, monkeypatch):
    job = job_of("slow")

    def killed(seconds):
        wait_for((job.run_dir / "pid").exists)
        os.kill(int((job.run_dir / "pid").read_text()), signal.SIGKILL)

    monkeypatch.setattr(task.time, "sleep", killed)
    outcome = run_job(job, str(tmp_path), 0, 0)
    assert outcome.message.startswith("killed by SIGKILL")


def test_runs_have_cores_of_their_own_until_they_end(job_of):
    available = sorted(os.sched_getaffinity(0))
    with task._cores(1) as (first, locks):
        assert first == available[:1] and len(locks) == 1
        with task._cores(len(available)) as (all_of_them, none):
            assert all_of_them == none == []  # not to be had: any core will do
        if len(available) > 1:
            with task._cores(1) as (second, _):
                assert second == available[1:2]
    with task._cores(len(available)) as (all_of_them, _):
        assert all_of_them == available
    with task._cores(0) as (none, _):
        assert none == []


@pytest.mark.parametrize(
    ("gpus", "given", "expected"),
    [(0, None, None), (1, None, None), (0.5, None, "0.45"), (0.25, "0.1", "0.1")],
)
def test_runs_that_share_a_gpu_share_its_memory(monkeypatch, gpus, given, expected):
    monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION", raising=False)
    if given:
        monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", given)
    assert task._environment(gpus).get("XLA_PYTHON_CLIENT_MEM_FRACTION") == expected


def test_a_run_saves_when_the_process_that_started_it_is_killed(job_of, tmp_path, repository):
    job = job_of("slow")
    code = (
        "from pathlib import Path; from iql_jax.sweep.task import run_job; "
        "from iql_jax.sweep.grid import Job; "
        f"run_job(Job({job.name!r}, Path({str(job.root)!r}), Path({str(STAND_IN)!r}), {job.flags}),"
        f" '.', 0, 0)"
    )
    environment = os.environ | {"PYTHONPATH": str(repository)}
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment) as starter:
        wait_for((job.run_dir / "pid").exists)
        starter.kill()
    wait_for((job.run_dir / "begun").exists)
    assert "stopped by SIGTERM" in job.log.read_text()
