"""Where training's batches come from: rows on the device, or rows in the host's memory or files."""

import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from iql_jax.agents import Agent
from iql_jax.agents.optim import Metrics
from iql_jax.training import population
from iql_jax.training.population import Layout

LOCATIONS = ("device", "host")

# Updates whose batches are brought to the device at once, and how many such pieces wait there.
PIECE = 100
_AHEAD = 2

Trained = tuple[Any, Metrics, jax.Array]


class DeviceFeed:
    """Rows on the device: the batches are gathered inside the compiled program."""

    def __init__(
        self,
        agent: Agent,
        config: Any,
        layout: Layout,
        keys: jax.Array,
        rows: np.ndarray,
        tasks: jax.Array | None = None,
    ):
        """Puts the rows f32[N, W] on every device.

        `keys` are the members' training keys, `tasks` as in `population.update_many`.
        """
        self._programs, self._keys, self._tasks = (agent, config, layout), keys, tasks
        self._rows = jax.device_put(rows, layout.replicated)
        self._num_rows = jax.device_put(jnp.int32(len(rows)), layout.replicated)

    def train(self, states: Any, num_updates: int, batch_size: int, precision: str) -> Trained:
        """Returns what `population.update_many` does."""
        return population.update_many(
            *self._programs,
            states,
            self._keys,
            self._rows,
            self._num_rows,
            batch_size=batch_size,
            num_updates=num_updates,
            precision=precision,
            tasks=self._tasks,
        )

    def close(self) -> None:
        """Does nothing: the rows go with the last reference to them."""


class HostFeed:
    """Rows in the host's memory or in a memory-mapped file: for data larger than the device.

    The same batches as from the device, bit for bit: the same rows are drawn. A thread gathers the
    next pieces and sends them to the device while it works on the present one.
    """

    def __init__(
        self,
        agent: Agent,
        config: Any,
        layout: Layout,
        keys: jax.Array,
        rows: np.ndarray,
        batch_size: int,
        pieces: Iterator[tuple[int, int]],
        tasks: jax.Array | None = None,
    ):
        """Starts to fetch.

        Args:
          agent: the agent's module.
          config: its static configuration.
          layout: where members live.
          keys: key[P], the members' training keys.
          rows: f32[N, W], an array or a memory map.
          batch_size: B.
          pieces: the number of the first update and the number of updates of each piece to come.
          tasks: as in `population.update_many`.
        """
        self._programs, self._keys, self._layout = (agent, config, layout), keys, layout
        self._tasks = tasks
        self._rows, self._batch_size = rows, batch_size
        self._ready: queue.Queue[jax.Array | BaseException] = queue.Queue(maxsize=_AHEAD)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._fetch, args=(pieces,), daemon=True)
        self._thread.start()

    def train(self, states: Any, num_updates: int, batch_size: int, precision: str) -> Trained:
        """Returns what `population.update_many` does, on the piece that is next in line."""
        del batch_size  # that of the pieces
        batches = self._ready.get()
        if isinstance(batches, BaseException):
            raise batches
        assert batches.shape[1] == num_updates
        return population.update_on_batches(
            *self._programs, states, self._keys, batches, precision=precision, tasks=self._tasks
        )

    def _fetch(self, pieces: Iterator[tuple[int, int]]) -> None:
        try:
            for first, num_updates in pieces:
                indices = population.draw_many(
                    self._keys,
                    np.int32(first),
                    np.int32(len(self._rows)),
                    batch_size=self._batch_size,
                    num_updates=num_updates,
                )
                batches = self._rows[np.asarray(indices)]  # [P, K, B, W]
                self._put(jax.device_put(batches, self._layout.members(len(batches))))
                if self._closing.is_set():
                    return
        except BaseException as error:
            self._put(error)

    def _put(self, item: Any) -> None:
        while not self._closing.is_set():
            try:
                return self._ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def close(self) -> None:
        """Ends the thread."""
        self._closing.set()
        self._thread.join()


def pieces_of(first: int, last: int, length: Callable[[int], int]) -> Iterator[tuple[int, int]]:
    """Yields (update, number of updates) of the calls that training makes from `first` to `last`.

    Args:
      first: updates done.
      last: updates at the end.
      length: from the updates done to the length of the next call.
    """
    while first < last:
        num_updates = length(first)
        yield first, num_updates
        first += num_updates


def map_rows(rows: np.ndarray, path: Path) -> np.ndarray:
    """Returns the rows f32[N, W] as a memory map of a file, which is written.

    The operating system then holds in memory what is used, and the rest stays on disk.
    """
    np.save(path, rows)
    return np.load(path, mmap_mode="r")
