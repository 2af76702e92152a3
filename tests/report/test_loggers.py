"""The log of a run: what is written, and that no kill or resume tears, loses or doubles a row."""

import json
import math
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from iql_jax.errors import InputError
from iql_jax.report import loggers, runs


def evaluation(log, update, score=50.0, **more):
    log.log_evaluation(update, {"episodes": 10, "score": score, "wall_seconds": 1.5, **more})


def test_metrics_have_one_row_per_member(tmp_path):
    log = loggers.open_run(tmp_path, [7, 8])
    values = {"training/q_loss": np.float32([0.1, 0.2]), "timing/updates_per_second": 300.0}
    log.log_metrics(1000, values, env_steps=500)
    log.close()
    first, second = runs.read_metrics(tmp_path)
    assert first == {
        "update": 1000,
        "env_steps": 500,
        "member": 0,
        "seed": 7,
        "training/q_loss": 0.1,  # the shortest decimal that gives the same float32
        "timing/updates_per_second": 300.0,
    }
    assert (second["member"], second["seed"], second["training/q_loss"]) == (1, 8, 0.2)


def test_float32_values_come_back_bit_for_bit(tmp_path):
    values = np.random.default_rng(0).standard_normal(100).astype(np.float32) * 1e5
    log = loggers.open_run(tmp_path, range(100))
    log.log_metrics(1, {"training/x": values})
    log.close()
    read = [row["training/x"] for row in runs.read_metrics(tmp_path)]
    assert np.array_equal(np.float32(read), values)


def test_values_that_are_not_finite_are_strict_json_and_named(tmp_path):
    log = loggers.open_run(tmp_path, [0])
    log.log_metrics(1, {"training/a": math.nan, "training/b": -math.inf, "training/c": 1.0})
    log.close()

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    row = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=refuse)
    assert row["training/a"] is None
    assert row["training/b"] is None
    assert row["nonfinite"] == {"training/a": "nan", "training/b": "-inf"}


def test_evaluations_have_all_columns_and_empty_fields_where_unknown(tmp_path):
    log = loggers.open_run(tmp_path, [3])
    log.log_evaluation(5000, {"episodes": 10, "return_mean": 12.5, "success_rate": None})
    log.close()
    header, row = (tmp_path / "evaluations.csv").read_text().splitlines()
    assert header.split(",") == list(loggers.EVALUATION_COLUMNS)
    assert row == "5000,,0,3,10,12.5,,,,,"


def test_members_that_were_dropped_have_no_rows(tmp_path):
    log = loggers.open_run(tmp_path, [0, 1, 2])
    log.log_metrics(1, {"training/x": [1.0, 3.0]}, members=[0, 2])
    log.close()
    assert [(row["seed"], row["training/x"]) for row in runs.read_metrics(tmp_path)] == [
        (0, 1.0),
        (2, 3.0),
    ]


def test_histograms_count_every_finite_value(tmp_path):
    log = loggers.open_run(tmp_path, [0, 1])
    log.log_histograms(10, {"advantage": np.array([[0.0, 1.0, 2.0, np.nan], [5.0] * 4])})
    log.close()
    first, second = runs.read_histograms(tmp_path)
    assert (first["name"], sum(first["counts"]), sum(second["counts"])) == ("advantage", 3, 4)
    assert (first["edges"][0], first["edges"][-1]) == (0.0, 2.0)
    assert len(first["edges"]) == len(first["counts"]) + 1 == loggers.HISTOGRAM_BINS + 1


def test_mistakes_of_the_caller_are_refused(tmp_path):
    log = loggers.open_run(tmp_path, [0, 1])
    with pytest.raises(ValueError, match=r"'training/x' has shape \(3,\) for 2 members"):
        log.log_metrics(1, {"training/x": np.zeros(3)})
    with pytest.raises(ValueError, match="no evaluation columns"):
        log.log_evaluation(1, {"scores": 1.0})
    evaluation(log, 10)
    log.log_metrics(10, {"training/x": 1.0})
    log.log_metrics(10, {"evaluation/score@16": 2.0})  # more of the same update is no mistake
    with pytest.raises(ValueError, match="metrics of update 9 after those of update 10"):
        log.log_metrics(9, {"training/x": 1.0})
    with pytest.raises(ValueError, match="evaluation of update 10 after those of update 10"):
        evaluation(log, 10)
    log.close()


def test_a_resume_drops_torn_and_later_rows_and_only_those(tmp_path):
    log = loggers.open_run(tmp_path, [0, 1])
    for update in (10, 20, 30):
        log.log_metrics(update, {"training/x": [update, update + 1]})
        evaluation(log, update)
        log.log_histograms(update, {"q": np.zeros((2, 5))})
    log.close()
    for name in ("metrics.jsonl", "evaluations.csv", "histograms.jsonl"):
        with open(tmp_path / name, "ab") as file:
            file.write(b'{"update": 10, "mem' if name.endswith("l") else b"10,,0,0,1")
    log = loggers.open_run(tmp_path, [0, 1], resume_at=20)
    assert log.last_evaluation == 20
    log.log_metrics(30, {"training/x": [30, 31]})
    log.close()
    assert [row["update"] for row in runs.read_metrics(tmp_path)] == [10, 10, 20, 20, 30, 30]
    assert [row["update"] for row in runs.read_evaluations(tmp_path)] == [10, 10, 20, 20]
    assert [row["update"] for row in runs.read_histograms(tmp_path)] == [10, 10, 20, 20]


def test_a_resume_before_anything_was_written_starts_clean(tmp_path):
    (tmp_path / "evaluations.csv").write_text("update,env_st")
    log = loggers.open_run(tmp_path, [0], resume_at=0)
    assert log.last_evaluation is None
    evaluation(log, 10)
    log.close()
    assert [row["score"] for row in runs.read_evaluations(tmp_path)] == [50.0]


def test_a_run_killed_before_its_first_checkpoint_starts_over(tmp_path):
    log = loggers.open_run(tmp_path, [0])
    evaluation(log, 0, score=1.0)
    log.close()
    log = loggers.open_run(tmp_path, [0], resume_at=-1)
    evaluation(log, 0, score=2.0)
    log.close()
    assert [row["score"] for row in runs.read_evaluations(tmp_path)] == [2.0]


def test_lines_that_a_failing_disk_spoilt_are_dropped_loudly(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"update": 1}\n\0\0\0\0\n{"update": 2}\n')
    said = []
    loggers.open_run(tmp_path, [0], resume_at=5, say=said.append).close()
    assert runs.read_metrics(tmp_path) == [{"update": 1}, {"update": 2}]
    assert "dropped 1 unreadable lines" in said[0]


def test_an_existing_run_is_not_written_over(tmp_path):
    loggers.open_run(tmp_path, [0]).close()
    with pytest.raises(InputError, match="already holds a run; continue it with --resume"):
        loggers.open_run(tmp_path, [0])


def test_two_runs_in_one_directory_are_refused(tmp_path):
    log = loggers.open_run(tmp_path, [0])
    with pytest.raises(InputError, match="another process is training into"):
        loggers.open_run(tmp_path, [0], resume_at=0)
    log.close()
    loggers.open_run(tmp_path, [0], resume_at=0).close()


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere/run.lock': No such file"):
        loggers.open_run(tmp_path / "nowhere", [0])


class BrokenSink:
    """A dashboard whose network is gone."""

    calls = 0

    def metrics(self, rows):
        self.calls += 1
        raise ConnectionError("connection\nlost")

    def evaluation(self, rows):
        raise AssertionError("called after it had failed")

    close = histograms = media = evaluation


def test_a_dashboard_that_fails_is_told_once_and_never_stops_the_run(tmp_path):
    sink, said = BrokenSink(), []
    connect = [lambda: ("W&B", sink), lambda: None]
    log = loggers.open_run(tmp_path, [0], connect=connect, say=said.append)
    for update in (1, 2, 3):
        log.log_metrics(update, {"training/x": 1.0})
        evaluation(log, update)
    log.close({})
    assert sink.calls == 1
    assert len(said) == 1
    assert "W&B failed and is off for the rest of this run (connection lost)" in said[0]
    assert len(runs.read_metrics(tmp_path)) == len(runs.read_evaluations(tmp_path)) == 3


WRITER = """
import sys
from iql_jax.report import loggers
run_dir, resume_at = sys.argv[1], int(sys.argv[2])
log = loggers.open_run(run_dir, [0, 1, 2], None if resume_at < 0 else resume_at)
start = max(resume_at, 0)
print("ready", flush=True)
for update in range(start + 1, 1_000_000):
    log.log_metrics(update, {"training/x": update, "training/text": "y" * 2000})
    log.log_evaluation(update, {"score": update})
    if update % 10 == 0:
        print(update, flush=True)  # a checkpoint: everything up to here must be on the disk
"""


def test_kills_leave_no_torn_lost_or_double_row(tmp_path, repository):
    checkpoint = -1
    for pause in (0.02, 0.05, 0.11):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(checkpoint)]
        with subprocess.Popen(
            command, cwd=repository, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": "."}
        ) as child:
            assert child.stdout.readline() == "ready\n"
            reached = int(child.stdout.readline())
            assert reached > checkpoint
            time.sleep(pause)
            child.send_signal(signal.SIGKILL)
            checkpoint = max([reached, *map(int, child.stdout.read().split())])
    loggers.open_run(tmp_path, [0, 1, 2], resume_at=checkpoint).close()
    wanted = [(update, member) for update in range(1, checkpoint + 1) for member in range(3)]
    metrics, scores = runs.read_metrics(tmp_path), runs.read_evaluations(tmp_path)
    assert [(row["update"], row["member"]) for row in metrics] == wanted
    assert [(row["update"], row["member"]) for row in scores] == wanted
    assert all(row["training/x"] == row["update"] for row in metrics)
