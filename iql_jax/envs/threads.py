"""A team of threads that share the items of a round, and whether it pays to use it."""

import itertools
import queue
import statistics
import threading
from collections.abc import Callable


class Round:
    """One pass over some environments, shared by the threads that work on it."""

    def __init__(self, work: Callable[[int], None], indices: list[int], num_helpers: int):
        self._work = work
        self._indices = indices
        self._next = itertools.count().__next__  # atomic: a C function under the interpreter lock
        self._helpers_done = threading.Semaphore(0)
        self._num_helpers = num_helpers
        self.error: BaseException | None = None

    def help(self) -> None:
        """Works until nothing is left, in whatever thread calls it."""
        work, indices, take = self._work, self._indices, self._next
        try:
            while (position := take()) < len(indices):
                work(indices[position])
        except BaseException as error:
            self.error = error
            # Nobody starts another environment of a round that has failed.
            while take() < len(indices):
                pass

    def help_in_thread(self) -> None:
        self.help()
        self._helpers_done.release()

    def wait(self) -> None:
        for _ in range(self._num_helpers):
            self._helpers_done.acquire()
        if self.error is not None:
            raise self.error


class Team:
    """Threads that stay up between steps; the calling thread is one of the team."""

    def __init__(self, num_threads: int):
        self._inboxes: list[queue.SimpleQueue] = [
            queue.SimpleQueue() for _ in range(num_threads - 1)
        ]
        self._threads = [
            threading.Thread(target=self._serve, args=(inbox,), name="lockstep", daemon=True)
            for inbox in self._inboxes
        ]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _serve(inbox: queue.SimpleQueue) -> None:
        while (work_round := inbox.get()) is not None:
            work_round.help_in_thread()

    def run(self, work: Callable[[int], None], indices: list[int], num_threads: int) -> None:
        """Calls `work` once on every index and raises an error that a thread met.

        At most `num_threads` of the team take part, and never more than there are indices.
        """
        num_helpers = max(min(num_threads, len(self._inboxes) + 1, len(indices)) - 1, 0)
        if num_helpers == 0:  # between two updates a round costs more than the steps' own Python
            for index in indices:
                work(index)
            return
        work_round = Round(work, indices, num_helpers)
        for inbox in self._inboxes[:num_helpers]:
            inbox.put(work_round)
        work_round.help()
        work_round.wait()

    def close(self) -> None:
        for inbox in self._inboxes:
            inbox.put(None)
        for thread in self._threads:
            thread.join()
        self._inboxes, self._threads = [], []


class Pace:
    """Finds whether a team is faster than one thread, by timing some rounds each way.

    Threads gain where steps mostly run outside the interpreter lock, and lose where they do not or
    where other programs keep the cores busy; only a measurement tells.
    """

    TRIALS = 5  # of each way; medians are compared, so that a hiccup decides nothing

    def __init__(self, num_threads: int, measure: bool):
        self._choices = (1, num_threads) if measure and num_threads > 1 else (num_threads,)
        self.restart()

    def restart(self) -> None:
        """Forgets what was measured."""
        self._seconds: dict[int, list[float]] = {choice: [] for choice in self._choices}

    def num_threads(self) -> int:
        """Returns how many threads the next round should use."""
        if len(self._choices) == 1:
            return self._choices[0]
        least_tried = min(self._choices, key=lambda choice: len(self._seconds[choice]))
        if len(self._seconds[least_tried]) < self.TRIALS:
            return least_tried
        return min(self._choices, key=lambda choice: statistics.median(self._seconds[choice]))

    def record(self, num_threads: int, seconds: float) -> None:
        """Notes what a round of all items took; only the trials count."""
        if len(self._seconds[num_threads]) < self.TRIALS:
            self._seconds[num_threads].append(seconds)
