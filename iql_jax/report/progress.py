"""Progress of a run on a terminal, or as lines now and then where there is none."""

import math
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from tqdm import tqdm

from iql_jax.report.summary import duration


class Progress:
    """A bar with updates per second, time left and the last score; plain lines in a log file.

    Lines come every ten seconds at first and at most every minute later, so that the log of a day
    stays readable. Time left counts everything, evaluation too, after the first chunk, which is
    left out because it compiles.
    """

    def __init__(
        self,
        total: int,
        done: int = 0,
        unit: str = "updates",
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start at `done` of `total`.

        Args:
          total: number of `unit` at the end.
          done: number already done, where a run is resumed.
          unit: what is counted, in the plural.
          stream: where to show it; standard error by default.
          clock: seconds that never go back.
        """
        self._stream = stream or sys.stderr
        self._clock, self._unit = clock, unit
        self._total, self._done = total, done
        self._notes: dict[str, str] = {}
        self._started = self._printed = clock()
        self._printed_done = done
        self._counted: tuple[float, int] | None = None  # since when, and from which count
        self._bar: tqdm[Any] | None = None
        if self._stream.isatty():
            self._bar = tqdm(
                total=total,
                initial=done,
                unit=f" {unit}",
                file=self._stream,
                dynamic_ncols=True,
                smoothing=0.1,
            )

    def advance(self, count: int) -> None:
        """Count `count` more."""
        self._done += count
        if self._bar is not None:
            self._bar.update(count)
            return
        now = self._clock()
        if self._counted is None:
            self._counted = (now, self._done)
        pause = min(60.0, max(10.0, (now - self._started) / 10))
        if now - self._printed >= pause or self._done >= self._total:
            self.say(self._line(now))
            self._printed, self._printed_done = now, self._done

    def note(self, **values: Any) -> None:
        """Show `values`, e.g. `score=35.2`, beside the progress from now on."""
        for name, value in values.items():
            shown = f"{value:.1f}" if isinstance(value, float) else str(value)
            self._notes[name] = shown
        if self._bar is not None:
            self._bar.set_postfix(self._notes)

    def say(self, text: str) -> None:
        """Print `text` on lines of its own, above the bar."""
        if self._bar is not None:
            tqdm.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _line(self, now: float) -> str:
        since, count = self._counted or (now, self._done)
        overall = (self._done - count) / (now - since) if now > since else math.nan
        passed = now - self._printed
        recent = (self._done - self._printed_done) / passed if passed > 0 else math.nan
        left = (self._total - self._done) / overall if overall > 0 else math.nan
        parts = [
            f"{self._done:,}/{self._total:,} {self._unit} ({self._done / self._total:.0%})",
            f"{recent:,.1f} {self._unit}/s" if recent >= 0 else f"- {self._unit}/s",
            f"{duration(left)} left",
        ]
        return ", ".join([*parts, *(f"{name} {value}" for name, value in self._notes.items())])
