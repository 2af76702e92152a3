"""Ctrl-C and SIGTERM as a question the training loop asks, so that it can save before it ends."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Stopped(BaseException):
    """Carries the signal out of whatever was going on."""

    def __init__(self, number: int):
        self.signal = signal.Signals(number)


@contextlib.contextmanager
def nothing_to_save() -> Iterator[None]:
    """While open, SIGINT and SIGTERM end the process at once, with a message and their status."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise _Stopped(number)

    previous = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield
    except _Stopped as stopped:
        print(
            f"\n{stopped.signal.name}: stopped before training began; there was nothing to save",
            file=sys.stderr,
            flush=True,
        )
        sys.exit(128 + stopped.signal)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class StopSignals:
    """While open, the first SIGINT or SIGTERM only sets `stopped`; a second SIGINT ends at once."""

    def __init__(self) -> None:
        self._received: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def stopped(self) -> bool:
        """Returns whether the run was asked to stop."""
        return self._received is not None

    def agree(self, number: int) -> None:
        """Takes over a signal that another process of the run received; 0 for none."""
        if number and self._received is None:
            self._received = signal.Signals(number)

    @property
    def number(self) -> int:
        """The signal's number, 0 if there was none."""
        return int(self._received or 0)

    @property
    def name(self) -> str:
        """The name of the signal, empty if there was none."""
        return self._received.name if self._received else ""

    @property
    def exit_status(self) -> int:
        """What a process says that the signal ended, as shells count: 128 + n; 0 without one."""
        return 128 + self._received if self._received else 0

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = signal.Signals(number)
        print(
            f"\n{self.name}: saving what was reached; Ctrl-C again ends at once",
            file=sys.stderr,
            flush=True,
        )
