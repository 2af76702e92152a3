"""One run of a sweep, on the machine that Ray chose for it."""

import contextlib
import fcntl
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from iql_jax.sweep.grid import Job, is_finished

_TETHER = Path(__file__).with_name("tether.py")
_POLL_SECONDS = 0.2
_TAIL_BYTES = 20_000
# What JAX takes of a GPU by itself is for one process alone; runs that share one share this.
_SHARED_MEMORY = 0.9


class Outcome(NamedTuple):
    """How a run ended.

    Attributes:
      finished: whether it reached its last update.
      seconds: how long it took this time.
      message: why it did not finish.
    """

    finished: bool
    seconds: float
    message: str


def run_job(job: Job, directory: str, num_cores: int, num_gpus: float) -> Outcome:
    """Runs the job's command, its output appended to the job's log, and returns how it ended.

    KeyboardInterrupt, which is how Ray cancels a task, lets the run save what it reached first.

    Args:
      job: the run.
      directory: where the command is run.
      num_cores: cores that the run is to have for itself; 0 for any.
      num_gpus: GPUs that Ray gave it, by CUDA_VISIBLE_DEVICES; below 1 it shares one.
    """
    begun = time.monotonic()
    try:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with open(job.log, "ab") as log, _cores(num_cores) as (cores, locks):
            log.write(f"$ {shlex.join(['python', *job.arguments])}\n".encode())
            log.flush()
            start = log.tell()
            process = _start(job, directory, cores, locks, _environment(num_gpus), log)
            status = _wait(process)
    except OSError as error:
        return Outcome(False, time.monotonic() - begun, f"cannot be started: {error}")
    seconds = time.monotonic() - begun
    if status == 0 and is_finished(job.run_dir):
        return Outcome(True, seconds, "")
    return Outcome(False, seconds, _reason(status, _last_line(job.log, start)))


def _start(
    job: Job, directory: str, cores: list[int], locks: list[int], env: dict[str, str], log: IO
) -> subprocess.Popen:
    names = ",".join(map(str, cores)) or "-"
    return subprocess.Popen(
        [sys.executable, str(_TETHER), str(os.getpid()), names, *job.arguments],
        cwd=directory,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        pass_fds=locks,  # its cores are free when the run has ended, however this process does
        start_new_session=True,  # Ctrl-C in the terminal reaches it through Ray alone, once
    )


def _wait(process: subprocess.Popen) -> int:
    try:
        while process.poll() is None:
            time.sleep(_POLL_SECONDS)
    except KeyboardInterrupt:
        process.terminate()
    return process.wait()


def _environment(num_gpus: float) -> dict[str, str]:
    environment = dict(os.environ)
    if 0 < num_gpus < 1:
        environment.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{_SHARED_MEMORY * num_gpus:.2f}")
    return environment


def _last_line(log: Path, start: int) -> str:
    """Returns the error in what was logged from byte `start` on, or else the last line."""
    with open(log, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(start, end - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").replace("\r", "\n").splitlines()
    lines = [line.strip() for line in lines if line.strip()]
    errors = [line for line in lines if line.startswith("error:")]
    return (errors or lines or ["no output"])[-1]


def _reason(status: int, last_line: str) -> str:
    if status == -signal.SIGKILL:
        return f"killed by SIGKILL, for want of memory perhaps; last line: {last_line}"
    if status < 0:
        return f"killed by {signal.Signals(-status).name}; last line: {last_line}"
    return f"exit status {status}; {last_line}"


@contextlib.contextmanager
def _cores(count: int) -> Iterator[tuple[list[int], list[int]]]:
    """Yields cores of this machine that no other run of a sweep has, and the locks on them.

    Runs that each spread over all cores would get in each other's way. None are named where the
    system cannot tie a process to cores, or where more runs than Ray knows of share the machine.
    """
    if not count or not hasattr(os, "sched_getaffinity"):
        yield [], []
        return
    folder = Path(tempfile.gettempdir()) / f"iql_jax_cores_{os.getuid()}"
    folder.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        held: dict[int, int] = {}
        for core in sorted(os.sched_getaffinity(0)):
            file = stack.enter_context(open(folder / f"{core}.lock", "wb"))
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held[core] = file.fileno()
            if len(held) == count:
                break
        if len(held) < count:
            held = {}
            stack.close()
        yield list(held), list(held.values())
