"""A run's online transitions on disk, appended step by step, for resuming and for later use.

`transitions.bin` holds float32 rows [K, P, W]: environment steps, members, and a transition as
`data.replay` lays it out. A checkpoint names how many steps it stands on and their checksum; what
lies behind them is dropped when a run is continued.
"""

import contextlib
import os
import zlib
from pathlib import Path

import numpy as np

from iql_jax.errors import InputError
from iql_jax.report.files import write_failure

# Steps that are written at once, since checksum and file cost each of them 20 us. What a kill loses
# was lived after the last checkpoint, and is lived again.
_AT_ONCE = 1000


class TransitionLog:
    """Appends the transitions of all members, one environment step at a time."""

    def __init__(self, path: Path, num_members: int, width: int):
        """Opens the file, which may not exist yet.

        Args:
          path: of the file.
          num_members: P.
          width: W.

        Raises:
          InputError: it cannot be written.
        """
        self._path, self._shape = path, (num_members, width)
        self._checksum = 0
        self._pending: list[np.ndarray] = []
        try:
            self._file = open(path, "ab")  # noqa: SIM115 - open for as long as the run lasts
        except OSError as error:
            raise write_failure(path, error) from error

    def restore(self, num_steps: int, checksum: int) -> np.ndarray:
        """Returns the first transitions f32[K, P, W] and drops the rest.

        Raises:
          InputError: they are not what was written.
        """
        size = num_steps * self._shape[0] * self._shape[1] * 4
        data = self._path.read_bytes()[:size]
        if len(data) < size or zlib.crc32(data) != checksum:
            raise InputError(
                f"'{self._path}' does not hold the {num_steps:,} environment steps that the "
                "checkpoint stands on: it was truncated or changed; start again in another "
                "--save_dir"
            )
        self._file.truncate(size)
        self._checksum = checksum
        return np.frombuffer(data, np.float32).reshape(num_steps, *self._shape)

    def append(self, rows: np.ndarray) -> None:
        """Adds the transitions f32[P, W] of one step, an array that nobody changes later.

        Raises:
          InputError: they cannot be written.
        """
        self._pending.append(rows)
        if len(self._pending) == _AT_ONCE:
            self._write()

    def sync(self) -> int:
        """Returns the checksum of all steps so far, once they are safe on disk.

        Raises:
          InputError: they cannot be written.
        """
        self._write()
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise write_failure(self._path, error) from error
        return self._checksum

    def close(self) -> None:
        """Writes the rest and closes the file."""
        with contextlib.closing(self._file):
            self._write()

    def _write(self) -> None:
        data = b"".join(np.asarray(rows, np.float32).tobytes() for rows in self._pending)
        self._pending.clear()
        self._checksum = zlib.crc32(data, self._checksum)
        try:
            self._file.write(data)
        except OSError as error:
            raise write_failure(self._path, error) from error
