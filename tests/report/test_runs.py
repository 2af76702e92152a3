"""Reading run directories: finished, running, damaged, missing."""

import math

import numpy as np
import pytest

from iql_jax.errors import InputError
from iql_jax.report import runs


def test_a_run_is_read_back(make_run):
    run = runs.load_run(make_run("a", [[10, 20], [30, 50]]))
    assert run.dataset == "generated/maze-v0"
    assert run.config["expectile"] == 0.9
    assert run.flags == {"seed": 0}
    assert run.seeds == [0, 1]
    assert (run.score_column, run.score_label) == ("score", "success rate (%)")
    assert run.results is None
    assert run.online_from is None
    scores = run.scores()
    assert scores.updates.tolist() == [1000, 2000]
    assert scores.values.tolist() == [[10, 20], [30, 50]]


def test_returns_stand_in_where_no_score_is_known(make_run):
    run = runs.load_run(make_run("a", [[np.nan]]))
    assert (run.score_column, run.score_label) == ("return_mean", "return")


def test_the_start_of_training_online_is_found(make_run):
    run = runs.load_run(make_run("a", [[1], [2], [3]], online_from=2000))
    assert run.online_from == 2000


def test_a_line_being_written_is_left_out(make_run):
    path = make_run("a", [[10]])
    for name, text in (("metrics.jsonl", '{"update": 2000'), ("evaluations.csv", "2000,,0")):
        with open(path / name, "a") as file:
            file.write(text)
    assert [row["update"] for row in runs.read_metrics(path)] == [1000]
    assert [row["update"] for row in runs.read_evaluations(path)] == [1000]


def test_empty_fields_are_nan(make_run):
    row = runs.read_evaluations(make_run("a", [[10]]))[0]
    assert math.isnan(row["env_steps"])
    assert row["episodes"] == 20


def test_pivot_leaves_gaps_where_members_have_no_value():
    rows = [
        {"update": 20, "member": 2, "x": 1.0},
        {"update": 10, "member": 0, "x": 2.0},
        {"update": 20, "member": 0, "x": None},
    ]
    series = runs.pivot(rows, "x")
    assert series.updates.tolist() == [10, 20]
    assert np.array_equal(series.values, [[2.0, np.nan], [np.nan, 1.0]], equal_nan=True)
    assert runs.pivot(rows, "y").values.shape == (0, 0)


def test_runs_below_a_directory_are_found_once(make_run, tmp_path):
    first, second = make_run("sweep/a", [[1]]), make_run("sweep/b", [[1]])
    found = runs.find_runs([tmp_path / "sweep", first])
    assert [run.path for run in found] == [first, second]


def test_what_cannot_be_read_is_named(make_run, tmp_path):
    with pytest.raises(InputError, match=r"no directory '.*nowhere'"):
        runs.load_run(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no directory '.*nowhere'"):
        runs.find_runs([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"is not a run directory: it has no config\.json"):
        runs.find_runs([tmp_path / "empty"])

    path = make_run("a", [[10]])
    (path / "metrics.jsonl").write_text('{"update": 1}\nspoilt\n')
    with pytest.raises(InputError, match=r"metrics.jsonl' line 2 is not JSON .* remove that line"):
        runs.read_metrics(path)
    with open(path / "evaluations.csv", "a") as file:
        file.write("1000,,0,0,ten,,,,,,\n")
    with pytest.raises(InputError, match=r"evaluations.csv' line 3 is damaged .*ten"):
        runs.load_run(path)
    (path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"cannot read '.*config.json'"):
        runs.load_run(path)


def test_leaves_get_dotted_names():
    assert runs.flatten({"a": {"b": 1, "c": {"d": 2}}, "e": 3}) == {"a.b": 1, "a.c.d": 2, "e": 3}
