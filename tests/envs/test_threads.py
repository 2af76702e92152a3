"""A team does each item once, and is used where it is faster."""

import threading

import numpy as np
import pytest

from iql_jax.envs.threads import Pace, Team


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("num_items", [0, 1, 3, 50])
def test_every_item_is_done_once(size, num_items):
    team = Team(size)
    done: list[int] = []
    for _ in range(20):
        team.run(done.append, np.arange(num_items), size)
    assert sorted(done) == sorted(list(range(num_items)) * 20)
    team.close()


def test_all_of_the_team_take_part_and_no_more_than_asked():
    team = Team(3)
    for asked in (3, 1, 2, 3):
        # Nobody passes before as many threads as asked are inside, so each must have come.
        barrier, workers = threading.Barrier(asked), set()

        def work(_, barrier=barrier, workers=workers):
            barrier.wait(timeout=10)
            workers.add(threading.get_ident())

        team.run(work, np.arange(asked), asked)
        assert len(workers) == asked
        assert threading.get_ident() in workers
    team.close()


def test_after_an_error_no_further_item_is_begun():
    team = Team(1)
    begun = []

    def work(i):
        begun.append(i)
        if i == 2:
            raise KeyError(i)

    with pytest.raises(KeyError):
        team.run(work, np.arange(10), 1)
    assert begun == [0, 1, 2]


def timed(pace, seconds):
    """The thread counts of the rounds that a pace asks for, given what each takes."""
    asked = []
    for _ in range(2 * Pace.TRIALS + 3):
        asked.append(pace.num_threads())
        pace.record(asked[-1], seconds[asked[-1]])
    return asked


@pytest.mark.parametrize(("alone", "together", "chosen"), [(3.0, 2.0, 4), (2.0, 3.0, 1)])
def test_the_faster_way_is_kept_after_both_were_tried(alone, together, chosen):
    asked = timed(Pace(4, measure=True), {1: alone, 4: together})
    assert asked[: 2 * Pace.TRIALS] == [1, 4] * Pace.TRIALS
    assert asked[2 * Pace.TRIALS :] == [chosen] * 3


def test_one_slow_trial_decides_nothing():
    pace = Pace(2, measure=True)
    pace.record(2, 100.0)
    assert timed(pace, {1: 2.0, 2: 1.0})[-1] == 2


def test_a_restart_measures_anew():
    pace = Pace(2, measure=True)
    assert timed(pace, {1: 2.0, 2: 1.0})[-1] == 2
    pace.restart()
    assert timed(pace, {1: 1.0, 2: 2.0})[-1] == 1


def test_a_given_number_of_threads_is_used_as_it_is():
    assert set(timed(Pace(3, measure=False), {3: 1.0})) == {3}
