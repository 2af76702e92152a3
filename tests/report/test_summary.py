"""The table a run ends with."""

import json

import numpy as np
import pytest

from iql_jax.errors import InputError
from iql_jax.report import records, summary


def test_summary_of_known_scores(make_run):
    path = make_run("a", [[10, 20, 30], [60, 70, 80], [40, 50, 60]])
    results = summary.summarise(path, wall_seconds=100.0, finished=True)
    assert (results["updates"], results["seeds"]) == (3000, [0, 1, 2])
    last, best = results["last"], results["best"]
    assert (last["update"], last["mean"], last["members"]) == (3000, 50.0, [40, 50, 60])
    assert (best["update"], best["mean"]) == (2000, 70.0)
    assert 40 <= last["low"] < 50 < last["high"] <= 60
    assert (last["episodes"], last["success_rate"], last["length_mean"]) == (20, 0.5, 250)
    assert results["evaluation_seconds"] == 6.0  # three evaluations of two seconds
    text = summary.format_summary(results)
    assert "generated/maze-v0: 3,000 updates" in text
    assert "last success rate (%)  50.0" in text
    assert "best success rate (%)  70.0" in text
    assert "0:01:40 with evaluation, 0:01:34 without" in text
    assert "made for a test, 1,234 rows, fingerprint f00d" in text
    assert "CPU, 2 cores" in text


def test_best_is_one_moment_for_all_members_and_the_first_of_equals(make_run):
    results = summary.summarise(make_run("a", [[90, 10], [10, 90], [20, 20]]))
    assert results["best"]["update"] == 1000
    assert results["best"]["mean"] == 50.0


def test_one_member_has_no_interval(make_run):
    results = summary.summarise(make_run("a", [[10]]))
    row = summary.format_summary(results).splitlines()[2].split()
    assert row == ["last", "success", "rate", "(%)", "10.0", "-", "1", "1,000", "10%", "250"]
    assert "wall time   - with evaluation, - without" in summary.format_summary(results)


def test_members_that_were_lost_are_left_out(make_run):
    results = summary.summarise(make_run("a", [[10, 20, 30], [10, np.nan, 40]]))
    assert results["last"]["mean"] == 25.0
    row = summary.format_summary(results).splitlines()[2].split()
    assert row[4:9] == ["25.0", "[10.0,", "40.0]", "2", "2,000"]


def test_a_run_without_evaluations(make_run):
    path = make_run("a", [[10]])
    (path / "evaluations.csv").unlink()
    results = summary.summarise(path)
    assert results["last"] is None
    assert "no evaluation was made" in summary.format_summary(results)
    with pytest.raises(InputError, match="has no evaluations yet"):
        summary.load_results(path)


def test_results_survive_the_file_and_follow_a_run_that_goes_on(make_run):
    path = make_run("a", [[10, 12], [20, 24]])
    results = summary.summarise(path, wall_seconds=100.0, finished=True)
    summary.write_results(path, results)
    text = (path / "results.json").read_text()
    assert json.loads(text) == records.to_json(results)
    assert summary.load_results(path)["wall_seconds"] == 100.0
    with open(path / "evaluations.csv", "a") as file:
        file.write("3000,,0,0,20,,,90,,,2\n3000,,1,1,20,,,90,,,2\n")
    later = summary.load_results(path)
    assert (later["last"]["mean"], later["finished"], later["wall_seconds"]) == (90, False, None)


@pytest.mark.parametrize(
    ("seconds", "wanted"), [(0, "0:00:00"), (3725.4, "1:02:05"), (None, "-"), (float("nan"), "-")]
)
def test_durations(seconds, wanted):
    assert summary.duration(seconds) == wanted
