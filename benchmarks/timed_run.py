"""Runs `train_offline.py` and tells where the time goes; `end_to_end` starts it.

    python -m benchmarks.timed_run START RESULT.json [flags of train_offline.py]

START is `time.time()` when the process was started, so that the interpreter counts too. Phases do
not overlap: what is compiled while evaluating is compiling. Training is what is left: waiting for
the device and the loop around it.
"""

import contextlib
import functools
import json
import runpy
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent


class Phases:
    """A clock that is always in exactly one phase."""

    def __init__(self, first: str, start: float):
        """Starts the clock in a phase that began at `start`."""
        self.seconds: dict[str, float] = {first: 0.0}
        self._stack = [first]
        self._since = start
        self._compiling: list[tuple[str, float, float]] = []

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Stops the phase around it for a while."""
        self._switch()
        self._stack.append(name)
        try:
            yield
        finally:
            self._switch()
            self._stack.pop()

    def next(self, name: str) -> None:
        """Ends the outermost phase, and begins another."""
        self._switch()
        self._stack[0] = name

    def timed(self, owner: Any, name: str, phase: str) -> None:
        """Makes every call of a function or method of `owner` a phase."""
        function = getattr(owner, name)

        @functools.wraps(function)
        def wrapper(*arguments: Any, **options: Any) -> Any:
            with self.phase(phase):
                return function(*arguments, **options)

        setattr(owner, name, wrapper)

    def compiled(self, event: str, seconds: float, **_: Any) -> None:
        """Hears from JAX what took how long."""
        if event.startswith("/jax/core/compile/"):
            now = time.time()
            self._compiling.append((self._stack[-1], now - seconds, now))

    def finish(self) -> dict[str, float]:
        """Returns the seconds of each phase."""
        self._switch()
        until = 0.0
        self.seconds["compile"] = 0.0
        # One may be within another: the longer ones, which begin first, count.
        for phase, start, end in sorted(self._compiling, key=lambda item: (item[1], -item[2])):
            seconds = max(0.0, end - max(start, until))
            until = max(until, end)
            self.seconds["compile"] += seconds
            self.seconds[phase] -= seconds
        return self.seconds

    def _switch(self) -> None:
        now = time.time()
        name = self._stack[-1]
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now


def main() -> None:
    """Runs and writes the seconds of each phase, also where the run fails."""
    start, result, *flags = sys.argv[1:]
    phases = Phases("import", float(start))
    watch(phases)
    sys.argv = [str(REPOSITORY / "train_offline.py"), *flags]
    status: Any = 0
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as ended:
        status = ended.code
    seconds = phases.finish()
    Path(result).write_text(json.dumps({"status": status or 0, "seconds": seconds}))


def watch(phases: Phases) -> None:
    """Imports what training needs, and makes phases of the functions in it."""
    import jax

    from iql_jax.training import evaluation, session
    from iql_jax.training.checkpoint import Checkpoints

    jax.monitoring.register_event_duration_secs_listener(phases.compiled)
    load: Callable[..., Any] = session.load_problem

    def load_problem(*arguments: Any, **options: Any) -> Any:
        phases.next("train")  # what comes after importing, less the phases within it
        with phases.phase("data"):
            return load(*arguments, **options)

    session.load_problem = load_problem
    for name in ("__init__", "__call__"):
        phases.timed(evaluation.Evaluator, name, "evaluate")
    for name in ("save", "wait", "restore", "close"):
        phases.timed(Checkpoints, name, "checkpoint")
    phases.timed(session, "finish", "report")


if __name__ == "__main__":
    main()
