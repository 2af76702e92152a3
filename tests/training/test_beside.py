"""A run evaluated beside training ends as one evaluated in place, whatever happens meanwhile."""

import itertools
import os
import signal
import threading
import types

import pytest

from iql_jax.envs.lockstep import Lockstep
from iql_jax.errors import InputError
from iql_jax.training import beside, evaluation, loop, session
from iql_jax.training.feed import DeviceFeed
from iql_jax.training.members import Member
from iql_jax.training.offline import train_offline
from iql_jax.training.run_directory import RunOptions
from tests.training.small_runs import (
    MEMBERS,
    contents,
    differing,
    evaluations,
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


def train(dataset, run_dir, resume="never", evaluate_beside="always", members=MEMBERS, **options):
    options = {"checkpoint_seconds": 1e9, "evaluate_beside": evaluate_beside} | options
    return train_offline(
        small_config(dataset), members, RunOptions(str(run_dir), resume, **options)
    )


@pytest.fixture(scope="module")
def in_place(dataset, tmp_path_factory):
    path = tmp_path_factory.mktemp("in-place") / "run"
    assert train(dataset, path, evaluate_beside="never") == 0
    return contents(path)


class Story(list):
    """What happened, in order, and what waits for it."""

    def __init__(self):
        self._changed = threading.Condition()

    def tell(self, what):
        with self._changed:
            self.append(what)
            self._changed.notify_all()

    def wait_for(self, what, times):
        with self._changed:
            assert self._changed.wait_for(lambda: self.count(what) >= times, timeout=60)


@pytest.fixture
def slow(monkeypatch):
    """Lets each evaluation beside training last until training waits for it; returns the story."""
    story = Story()
    finish, call, feed = loop._finish_pending, evaluation.Evaluator.__call__, DeviceFeed.train

    def finishing(run):
        story.tell("wait")
        finish(run)

    def evaluating(*arguments, **kwargs):
        story.tell("evaluate")
        if threading.current_thread() is not threading.main_thread():
            story.wait_for("wait", story.count("evaluate"))
        return call(*arguments, **kwargs)

    def training(self, states, num_updates, *arguments):
        story.tell(num_updates)
        return feed(self, states, num_updates, *arguments)

    monkeypatch.setattr(loop, "_finish_pending", finishing)
    monkeypatch.setattr(evaluation.Evaluator, "__call__", evaluating)
    monkeypatch.setattr(DeviceFeed, "train", training)
    return story


def test_training_goes_on_and_nothing_differs(dataset, in_place, tmp_path, slow):
    assert train(dataset, tmp_path) == 0
    # Evaluations of updates 30, 60 and 90 are waited for where the next is due; that of 100 ends.
    assert [what for what in slow if what not in ("evaluate", "wait")] == [
        20,
        10,
        10,
        20,
        20,
        10,
        10,
    ]
    assert slow.count("wait") == 3
    first_wait = slow.index("wait")
    assert sum(what for what in slow[:first_wait] if isinstance(what, int)) == 60
    assert differing(contents(tmp_path), in_place) == []


@pytest.mark.slow
def test_evaluations_that_end_early_are_logged_early(dataset, in_place, tmp_path, monkeypatch):
    submit = beside.Beside.submit

    def finished(*arguments):
        future = submit(*arguments)
        future.exception()  # waits
        return future

    monkeypatch.setattr(beside.Beside, "submit", finished)
    assert train(dataset, tmp_path) == 0
    assert differing(contents(tmp_path), in_place) == []


@pytest.mark.parametrize("at", [pytest.param(30, marks=pytest.mark.slow), 60])
def test_a_signal_ends_the_evaluation_and_training_goes_back(
    dataset, in_place, tmp_path, monkeypatch, slow, at
):
    feed = DeviceFeed.train

    def stopping(self, states, num_updates, *arguments):
        if sum(what for what in slow if isinstance(what, int)) == at:  # the first call after it
            os.kill(os.getpid(), signal.SIGTERM)
        return feed(self, states, num_updates, *arguments)

    monkeypatch.setattr(DeviceFeed, "train", stopping)
    assert train(dataset, tmp_path) == 128 + signal.SIGTERM
    assert len(evaluations(tmp_path)) == (at // 30 - 1) * len(MEMBERS)
    assert max(row["update"] for row in metrics(tmp_path)) <= at
    monkeypatch.undo()
    assert train(dataset, tmp_path, "must") == 0
    assert differing(contents(tmp_path), in_place) == []


class Crash(BaseException):
    """The end of a process wherever it is."""


@pytest.mark.parametrize(
    "where", ["evaluation", pytest.param("training", marks=pytest.mark.slow), "log"]
)
def test_a_crash_meanwhile_is_resumed_from(dataset, in_place, tmp_path, monkeypatch, slow, where):
    calls = itertools.count()

    def crashing(*arguments, **kwargs):
        if next(calls) == 1:
            raise Crash("beside")
        return original(*arguments, **kwargs)

    owner, name = {
        "evaluation": (Lockstep, "reset_where"),
        "training": (loop, "_log_chunk"),
        "log": (loop, "_log_evaluations"),
    }[where]
    original = getattr(owner, name)
    with monkeypatch.context() as patch, pytest.raises(Crash, match="beside"):
        patch.setattr(owner, name, crashing)
        train(dataset, tmp_path)
    slow.clear()
    assert train(dataset, tmp_path, "auto") == 0
    assert differing(contents(tmp_path), in_place) == []


def test_a_crash_of_training_does_not_wait_for_the_evaluation(
    dataset, in_place, tmp_path, monkeypatch
):
    step, begun = Lockstep.step, threading.Event()

    def endless(self, *arguments):
        begun.set()
        result = step(self, *arguments)
        result.truncated[:] = False
        return result

    def crashing(self, *arguments):
        if next(calls) == 2:  # the first after the evaluation of update 30 was begun
            assert begun.wait(60)
            raise Crash
        return feed(self, *arguments)

    calls = itertools.count()
    feed = DeviceFeed.train
    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(Lockstep, "step", endless)
        patch.setattr(DeviceFeed, "train", crashing)
        train(dataset, tmp_path)
    assert not any(thread.name.startswith("evaluation") for thread in threading.enumerate())
    assert train(dataset, tmp_path, "must") == 0
    assert differing(contents(tmp_path), in_place) == []


@pytest.mark.slow
def test_a_member_that_breaks_meanwhile_is_dropped_after_its_evaluation(
    dataset, tmp_path, slow, monkeypatch
):
    members = [*MEMBERS, Member(5, {"critic_lr": 3e5})]
    found = []
    for name in ("never", "always"):
        slow.clear()
        assert train(dataset, tmp_path / name, "never", name, members, on_nan="drop") == 0
        found.append(contents(tmp_path / name))
    assert differing(*found) == []
    assert len(evaluations(tmp_path / "always")) in range(4 * 2, 4 * 3)


def layout(platform, num_devices=1):
    return types.SimpleNamespace(platform=platform, mesh=types.SimpleNamespace(size=num_devices))


def test_auto_is_where_members_act_on_the_host_and_train_elsewhere():
    assert not beside.chosen("auto", layout("cpu"), layout("cpu"), 1)
    assert beside.chosen("auto", layout("gpu", 2), layout("cpu"), 3)
    assert not beside.chosen("auto", layout("gpu"), layout("gpu"), 1)
    assert not beside.chosen("never", layout("gpu"), layout("cpu"), 1)
    assert beside.chosen("always", layout("gpu", 2), layout("gpu", 2), 4)
    with pytest.raises(InputError, match=r"always: 3 members on 2 devices exchange arrays"):
        beside.chosen("always", layout("gpu", 2), layout("gpu", 2), 3)
    with pytest.raises(InputError, match=r"'maybe', but must be one of auto, always, never"):
        beside.chosen("maybe", layout("cpu"), layout("cpu"), 1)


def test_policies_of_one_pass_act_on_the_host():
    light, heavy = (types.SimpleNamespace(ACTS_IN_ONE_PASS=light) for light in (True, False))
    accelerator = layout("gpu")
    assert evaluation.acting_layout(light, accelerator, 1).platform == "cpu"
    assert evaluation.acting_layout(heavy, accelerator, 1) is accelerator
    host = layout("cpu")
    assert evaluation.acting_layout(light, host, 1) is host
