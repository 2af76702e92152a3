"""A clock that is always in exactly one phase."""

import time
import types

import pytest

from benchmarks import timed_run


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(timed_run, "time", types.SimpleNamespace(time=lambda: now[0]))
    return now


def test_phases_do_not_overlap(clock):
    phases = timed_run.Phases("import", 90.0)
    phases.next("train")
    clock[0] = 103.0
    with phases.phase("evaluate"):
        clock[0] = 105.0
        with phases.phase("checkpoint"):
            clock[0] = 106.0
        clock[0] = 110.0
    clock[0] = 111.0
    seconds = phases.finish()
    wanted = {"import": 10.0, "train": 4.0, "evaluate": 6.0, "checkpoint": 1.0, "compile": 0.0}
    assert seconds == pytest.approx(wanted)


def test_compiling_is_taken_out_of_the_phase_it_is_in(clock):
    phases = timed_run.Phases("train", 100.0)
    clock[0] = 104.0
    phases.compiled("/jax/core/compile/jaxpr_trace_duration", 1.0)  # within the next
    clock[0] = 105.0
    phases.compiled("/jax/core/compile/backend_compile_duration", 3.0)
    phases.compiled("/jax/some/other", 2.0)
    clock[0] = 110.0
    assert phases.finish() == pytest.approx({"train": 7.0, "compile": 3.0})


def test_a_function_becomes_a_phase():
    owner = types.SimpleNamespace(work=lambda x: x + 1)
    phases = timed_run.Phases("train", time.time())
    phases.timed(owner, "work", "evaluate")
    assert owner.work(1) == 2
    assert set(phases.finish()) == {"train", "evaluate", "compile"}
