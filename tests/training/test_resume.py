"""A run that was stopped and resumed ends as one that never was; nothing else is resumed."""

import dataclasses
import itertools
import json
import os
import signal

import numpy as np
import pytest

from iql_jax.envs.lockstep import Lockstep
from iql_jax.errors import InputError
from iql_jax.report import loggers
from iql_jax.training import loop, session
from iql_jax.training.offline import train_offline
from iql_jax.training.run_directory import RunOptions
from tests.training.small_runs import (
    MEMBERS,
    contents,
    differing,
    evaluations,
    final_arrays,
    metrics,
    small_config,
    write_data,
)


@pytest.fixture(autouse=True, scope="module")
def without_pictures():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session.pictures, "draw_run", lambda run_dir: [])
        yield


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data") / "pendulum.npz")


def train(config, run_dir, resume="never", members=MEMBERS, **options):
    """Returns the exit status of a run, evaluated only where it says so."""
    options = {"evaluate": False, "checkpoint_seconds": 1e9} | options
    return train_offline(config, members, RunOptions(str(run_dir), resume, **options))


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    """A run without an environment that was never interrupted."""
    path = tmp_path_factory.mktemp("whole") / "run"
    assert train(small_config(dataset), path) == 0
    return path


@pytest.fixture(scope="module")
def whole_evaluated(dataset, tmp_path_factory):
    """Such a run with an environment."""
    path = tmp_path_factory.mktemp("evaluated") / "run"
    assert train(small_config(dataset), path, evaluate=True) == 0
    return path


@pytest.fixture
def stop_at(monkeypatch):
    """Returns a function that lets a run receive a signal while the update is worked on."""
    chunk_length = loop.chunk_length

    def arrange(update, number=signal.SIGTERM):
        def stopping(setup, done):
            length = chunk_length(setup, done)
            if done < update <= done + length:
                os.kill(os.getpid(), number)
            return length

        monkeypatch.setattr(loop, "chunk_length", stopping)

    return arrange


CALLS_END = (20, 30, 40, 60, 80, 90, 100)  # of the compiled program


@pytest.mark.parametrize(
    ("stops", "checkpoint_seconds"), [((5,), 1e9), ((31,), 0.0), ((25, 60, 85), 1e9)], ids=str
)
def test_a_stopped_run_ends_as_one_never_stopped(
    dataset, whole, tmp_path, stop_at, capsys, stops, checkpoint_seconds
):
    config, run_dir = small_config(dataset), tmp_path / "run"
    reached = [next(end for end in CALLS_END if end >= stop) for stop in stops]
    for stop, update in zip(stops, reached, strict=True):
        stop_at(stop)
        status = train(config, run_dir, "auto", checkpoint_seconds=checkpoint_seconds)
        assert status == 128 + signal.SIGTERM
        told = capsys.readouterr()
        assert "SIGTERM: saving what was reached" in told.err
        assert f"stopped by SIGTERM at update {update}; the same" in told.out
        assert f"--save_dir={run_dir} --resume continues" in told.out
        assert json.loads((run_dir / "results.json").read_text())["finished"] is False
    stop_at(-1)
    assert train(config, run_dir, "auto") == 0
    assert differing(contents(run_dir), contents(whole)) == []
    resumes = json.loads((run_dir / "record.json").read_text())["resumes"]
    assert [entry["update"] for entry in resumes] == reached


def test_with_an_environment(dataset, whole_evaluated, tmp_path, stop_at):
    config, run_dir = small_config(dataset), tmp_path / "run"
    for update, number in ((15, signal.SIGINT), (75, signal.SIGTERM)):
        stop_at(update, number)
        assert train(config, run_dir, "auto", evaluate=True) == 128 + number
    stop_at(-1)
    assert train(config, run_dir, "must", evaluate=True) == 0
    assert len(evaluations(run_dir)) == 4 * len(MEMBERS)
    assert differing(contents(run_dir), contents(whole_evaluated)) == []


@pytest.mark.parametrize("during", [2, 4], ids="evaluation {}".format)
def test_a_run_stopped_while_it_evaluates(dataset, whole_evaluated, tmp_path, monkeypatch, during):
    config, run_dir = small_config(dataset), tmp_path / "run"
    step, steps = Lockstep.step, itertools.count(1)

    def stopping(self, *arguments):
        if next(steps) == 200 * (during - 1) + 77:  # an episode has 200 steps
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, *arguments)

    monkeypatch.setattr(Lockstep, "step", stopping)
    assert train(config, run_dir, evaluate=True) == 128 + signal.SIGINT
    assert len(evaluations(run_dir)) == (during - 1) * len(MEMBERS)
    assert train(config, run_dir, "must", evaluate=True) == 0
    # The score counts when the best checkpoint is chosen, too.
    assert differing(contents(run_dir), contents(whole_evaluated)) == []


class Crash(BaseException):
    """The end of a process wherever it is."""


@pytest.mark.parametrize(
    ("method", "when"),
    [("log_metrics", "after"), ("log_evaluation", "before"), ("log_evaluation", "after")],
)
def test_a_crash_around_each_row_leaves_no_gap_and_no_double(
    dataset, whole_evaluated, tmp_path, monkeypatch, method, when
):
    config, run_dir = small_config(dataset), tmp_path / "run"
    log = getattr(loggers.RunLog, method)

    def crashing(self, update, *arguments, **kwargs):
        crash = update >= 60
        if not (crash and when == "before"):
            log(self, update, *arguments, **kwargs)
        if crash:
            raise Crash

    monkeypatch.setattr(loggers.RunLog, method, crashing)
    with pytest.raises(Crash):
        train(config, run_dir, evaluate=True)
    monkeypatch.setattr(loggers.RunLog, method, log)
    assert train(config, run_dir, "must", evaluate=True) == 0
    assert differing(contents(run_dir), contents(whole_evaluated)) == []


def test_a_crash_after_an_interrupted_evaluation_was_made_up_for(
    dataset, whole_evaluated, tmp_path, monkeypatch
):
    # The checkpoint of this update is older than its evaluation: rows must not be written twice.
    config, run_dir = small_config(dataset), tmp_path / "run"
    step = Lockstep.step

    def stopping(self, *arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return step(self, *arguments)

    monkeypatch.setattr(Lockstep, "step", stopping)
    assert train(config, run_dir, evaluate=True) == 128 + signal.SIGINT
    monkeypatch.setattr(Lockstep, "step", step)
    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(session.Checkpoints, "save", lambda *_: crash())
        train(config, run_dir, "must", evaluate=True)
    assert len(evaluations(run_dir)) == len(MEMBERS)
    assert train(config, run_dir, "must", evaluate=True) == 0
    assert differing(contents(run_dir), contents(whole_evaluated)) == []


def crash():
    raise Crash


def test_a_signal_that_comes_too_late_is_no_failure(dataset, whole, tmp_path, stop_at, capsys):
    stop_at(100)
    assert train(small_config(dataset), tmp_path / "run") == 0
    assert "continues" not in capsys.readouterr().out
    assert differing(contents(tmp_path / "run"), contents(whole)) == []


def test_resuming_a_finished_run_changes_nothing(dataset, whole, tmp_path):
    run_dir = tmp_path / "run"
    assert train(small_config(dataset), run_dir) == 0
    before = contents(run_dir)
    assert train(small_config(dataset), run_dir, "must") == 0
    assert differing(contents(run_dir), before) == []


# What is refused, and what may change.


def test_an_existing_run_is_refused_unless_resumed(dataset, whole):
    before = final_arrays(whole)
    with pytest.raises(InputError, match="already holds a run; continue it with --resume"):
        train(small_config(dataset), whole)
    assert final_arrays(whole) == before


def test_resume_needs_a_run_and_auto_starts_one(dataset, tmp_path, capsys):
    config = small_config(dataset, max_steps=20)
    with pytest.raises(InputError, match="holds no run to resume; leave out --resume"):
        train(config, tmp_path / "run", "must")
    assert not (tmp_path / "run").exists()
    assert train(config, tmp_path / "run", "auto") == 0
    assert "(continued)" not in capsys.readouterr().out
    assert train(config, tmp_path / "run", "auto") == 0
    assert "(continued)" in capsys.readouterr().out


def test_a_folder_of_other_things_is_refused(dataset, tmp_path):
    (tmp_path / "thesis.tex").touch()
    for resume in ("never", "auto"):
        with pytest.raises(InputError, match="is not empty and holds no run"):
            train(small_config(dataset), tmp_path, resume)
    assert os.listdir(tmp_path) == ["thesis.tex"]


@pytest.mark.parametrize("resume", ["never", "auto", "must"])
def test_a_run_killed_before_its_first_record_starts_again(dataset, whole, tmp_path, resume):
    for name in ("run.lock", "record.json", "config.json.partial"):
        (tmp_path / name).touch()
    assert train(small_config(dataset), tmp_path, resume) == 0
    assert differing(contents(tmp_path), contents(whole)) == []


def test_other_settings_are_refused_with_the_difference(dataset, whole):
    changed = small_config(dataset, expectile=0.8, hidden_dims=(8, 9))
    with pytest.raises(InputError) as caught:
        train(changed, whole, "must")
    text = str(caught.value)
    assert "expectile was 0.7 and is now 0.8" in text
    assert "hidden_dims was [8, 8] and is now [8, 9]" in text
    assert "only max_steps, log_interval, eval_interval may change" in text
    with pytest.raises(InputError, match=r"members was .*'seed': 8.* and is now"):
        train(small_config(dataset), whole, "must", members=MEMBERS[:1])
    with pytest.raises(InputError, match="evaluate was False and is now True"):
        train(small_config(dataset), whole, "must", evaluate=True)


def test_a_setting_that_was_added_since_counts_as_its_default(dataset, whole, tmp_path):
    config = json.loads((whole / "config.json").read_text())
    del config["config"]["expectile"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError) as caught:
        train(small_config(dataset, expectile=0.8), tmp_path, "must")
    assert "other settings: expectile was 0.7 and is now 0.8; " in str(caught.value)


def test_other_data_under_the_same_name_is_refused(tmp_path):
    path = tmp_path / "data.npz"
    config = small_config(write_data(path), max_steps=20)
    assert train(config, tmp_path / "run") == 0
    with np.load(path) as file:
        arrays = dict(file)
    arrays["rewards"][7] += 1e-3
    np.savez(path, **arrays)
    before = (tmp_path / "run" / "record.json").read_text()
    with pytest.raises(InputError, match=r"has changed: .* had 300 rows and fingerprint \w{16}"):
        train(config, tmp_path / "run", "must")
    assert (tmp_path / "run" / "record.json").read_text() == before


def test_more_updates_may_be_asked_for(dataset, tmp_path):
    long = small_config(dataset, max_steps=120, opt_decay_schedule="none")
    assert train(long, tmp_path / "whole") == 0
    assert train(dataclasses.replace(long, max_steps=60), tmp_path / "run") == 0
    assert train(long, tmp_path / "run", "must") == 0
    assert differing(contents(tmp_path / "run"), contents(tmp_path / "whole")) == []
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"]["max_steps"] == 120


def test_the_schedule_follows_the_new_end(dataset, whole, tmp_path):
    assert train(small_config(dataset, max_steps=60), tmp_path / "run") == 0
    assert train(small_config(dataset), tmp_path / "run", "must") == 0
    decay_steps = final_arrays(tmp_path / "run")["hyper.actor_decay_steps"]
    assert decay_steps == final_arrays(whole)["hyper.actor_decay_steps"]


def test_fewer_updates_than_are_done_are_refused(dataset, whole):
    with pytest.raises(InputError, match=r"max_steps is 60, but .* is at update 100 already"):
        train(small_config(dataset, max_steps=60), whole, "must")


def test_rows_may_come_at_another_pace(dataset, whole, tmp_path, stop_at):
    stop_at(20)
    assert train(small_config(dataset), tmp_path / "run") == 128 + signal.SIGTERM
    stop_at(-1)
    assert train(small_config(dataset, log_interval=10), tmp_path / "run", "must") == 0
    updates = sorted({row["update"] for row in metrics(tmp_path / "run")})
    assert updates == [20, 30, 40, 50, 60, 70, 80, 90, 100]
    assert final_arrays(tmp_path / "run") == final_arrays(whole)


@pytest.mark.parametrize("resume", ["never", "auto", "must"])
def test_two_processes_in_one_directory_are_refused(dataset, tmp_path, resume):
    with (
        loggers.lock_run(tmp_path),
        pytest.raises(InputError, match="another process is training into"),
    ):
        train(small_config(dataset), tmp_path, resume)
    assert train(small_config(dataset, max_steps=20), tmp_path, resume) == 0


def test_a_run_that_began_meanwhile_is_not_written_over(dataset, whole, tmp_path, monkeypatch):
    # Between the first look into the directory and the lock, another process trained in it.
    run_dir = tmp_path / "run"
    lock_run = loggers.lock_run

    def other_first(path):
        monkeypatch.setattr(session.loggers, "lock_run", lock_run)
        assert train(small_config(dataset), run_dir, "auto") == 0
        return lock_run(path)

    monkeypatch.setattr(session.loggers, "lock_run", other_first)
    with pytest.raises(InputError, match="already holds a run"):
        train(small_config(dataset), run_dir)
    assert differing(contents(run_dir), contents(whole)) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_training_says_that_nothing_was_lost(
    dataset, tmp_path, monkeypatch, capsys, number
):
    load_problem = session.load_problem

    def stopped(*arguments):
        os.kill(os.getpid(), number)
        return load_problem(*arguments)

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as caught:
        patch.setattr(session, "load_problem", stopped)
        train(small_config(dataset), tmp_path / "run")
    assert caught.value.code == 128 + number
    assert f"{number.name}: stopped before training began" in capsys.readouterr().err
    assert train(small_config(dataset, max_steps=20), tmp_path / "run", "must") == 0
