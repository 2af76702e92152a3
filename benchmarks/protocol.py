"""Timed work in processes of its own that take turns.

Flags, devices and threads are settings of a process, and published codes may need a Python of
their own, so every configuration of a comparison lives in its own process, is built and warmed up
there, and then waits for its turns. Rounds go through all of them, so that what else the machine
does falls on all alike. This module needs the standard library alone.
"""

import dataclasses
import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# For processes that share an accelerator, and for errors whose last line is the error.
_ENVIRONMENT = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "JAX_TRACEBACK_FILTERING": "off"}
REPOSITORY = Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True)
class Work:
    """What a process does in one of its turns.

    Attributes:
      run: does it, and returns when it is done.
      updates: how many updates that is; those of all members together.
      facts: what is known about it, as JSON.
    """

    run: Callable[[], None]
    updates: int
    facts: dict[str, Any]


class WorkerError(RuntimeError):
    """A process that failed: the message ends with its last line on standard error."""


class Worker:
    """A process that builds one piece of work and does it when told."""

    def __init__(
        self,
        module: str,
        spec: Mapping[str, Any],
        *,
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
        limit_seconds: float = 1200.0,
    ):
        """Starts the process; it builds while others may be started.

        Args:
          module: has `build(spec) -> Work`.
          spec: what to build, as JSON.
          python: the interpreter.
          environment: variables beside those of this process.
          limit_seconds: an answer that takes longer ends the process.
        """
        self._limit_seconds = limit_seconds
        self._errors: list[str] = []
        paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.protocol", module, json.dumps(dict(spec))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=_ENVIRONMENT
            | os.environ
            | {"PYTHONPATH": os.pathsep.join(paths)}
            | dict(environment or {}),
        )
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if line.strip():
                self._errors = [*self._errors[-19:], line.rstrip()]

    def facts(self) -> dict[str, Any]:
        """Returns what `build` knows about its work, once it is ready.

        Raises:
          WorkerError: it could not be built.
        """
        return self._answer()

    def turn(self) -> dict[str, Any]:
        """Returns `seconds`, `updates` and `peak_bytes` of one turn.

        Raises:
          WorkerError: it failed.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("turn\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the answer tells why
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        timer = threading.Timer(self._limit_seconds, self._process.kill)
        timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        if not line:
            self._process.wait()
            self._reader.join(timeout=5)
            reason = self._errors[-1] if self._errors else "it said nothing"
            raise WorkerError(f"{reason} (exit status {self._process.returncode})")
        return json.loads(line)

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            stream.close()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def take_turns(
    workers: Mapping[str, Worker], rounds: int, warm_up: int = 1
) -> dict[str, dict[str, Any]]:
    """Returns by name the microseconds per update of each round, and the peak memory.

    Args:
      workers: ready ones.
      rounds: how often each has its turn.
      warm_up: turns before the first round, not counted.
    """
    results: dict[str, dict[str, Any]] = {name: {"rounds_us": []} for name in workers}
    names = list(workers)
    for turn in range(warm_up + rounds):
        first = turn % len(names)  # another begins each round: a turn feels the one before
        for name in names[first:] + names[:first]:
            answer = workers[name].turn()
            if turn >= warm_up:
                results[name]["rounds_us"].append(1e6 * answer["seconds"] / answer["updates"])
            results[name]["peak_bytes"] = answer["peak_bytes"]
    for result in results.values():
        result |= spread(result["rounds_us"])
    return results


def spread(values: list[float]) -> dict[str, float]:
    """Returns the median of values with their minimum and maximum."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratio(numerator: Mapping[str, Any], denominator: Mapping[str, Any]) -> dict[str, float]:
    """Returns the spread over rounds of one result's time by another's in the same round."""
    pairs = zip(numerator["rounds_us"], denominator["rounds_us"], strict=True)
    return spread([a / b for a, b in pairs])


def serve(module: str, spec: dict[str, Any]) -> None:
    """Builds the work of a spec, then does it once for every line on standard input."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what the work prints is no answer

    def answer(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    work: Work = importlib.import_module(module).build(spec)
    answer(work.facts)
    for _ in sys.stdin:
        start = time.perf_counter()
        work.run()
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        unit = 1 if sys.platform == "darwin" else 1024
        answer({"seconds": seconds, "updates": work.updates, "peak_bytes": peak * unit})


if __name__ == "__main__":
    # Under its real name: `Work` must be the same class here and in the module that builds.
    importlib.import_module("benchmarks.protocol").serve(sys.argv[1], json.loads(sys.argv[2]))
