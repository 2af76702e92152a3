"""Processes that take turns."""

import pytest

from benchmarks.protocol import Worker, WorkerError, ratio, spread, take_turns

MODULE = "tests.benchmarks.worker_for_tests"


def test_workers_take_turns():
    with Worker(MODULE, {"updates": 3}) as one, Worker(MODULE, {"updates": 5}) as other:
        assert (one.facts(), other.facts()) == ({"size": 3}, {"size": 5})
        results = take_turns({"one": one, "other": other}, rounds=2)
    assert set(results) == {"one", "other"}
    for result in results.values():
        assert len(result["rounds_us"]) == 2
        assert 0 < result["min"] <= result["median"] <= result["max"]
        assert result["peak_bytes"] > 1e6


def test_what_fails_says_why():
    with (
        Worker(MODULE, {"updates": 1, "fail": "build"}) as worker,
        pytest.raises(WorkerError, match="ValueError: no such size"),
    ):
        worker.facts()
    with Worker(MODULE, {"updates": 1, "fail": "run"}) as worker:
        worker.facts()
        with pytest.raises(WorkerError, match="ValueError: out of memory"):
            worker.turn()


def test_a_ratio_is_of_the_same_round():
    fast = {"rounds_us": [1.0, 10.0, 2.0]}
    slow = {"rounds_us": [2.0, 30.0, 3.0]}
    assert ratio(slow, fast) == {"median": 2.0, "min": 1.5, "max": 3.0}
    assert spread([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0}
