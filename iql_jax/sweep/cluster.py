"""The machines that a sweep runs on, as Ray sees them, and its runs as Ray's tasks."""

import contextlib
import dataclasses
import math
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from iql_jax.errors import InputError
from iql_jax.sweep.grid import REPOSITORY, Job
from iql_jax.sweep.task import Outcome, run_job
from iql_jax.training.interrupt import StopSignals

_INSTALL = 'pip install "ray>=2.48,<3"'
_LOCAL_STORE_BYTES = 80 * 2**20  # what tasks return is a line of text; Ray's default is gigabytes
_RESTARTS = 3  # of a run whose machine or worker was lost; it continues from its checkpoint
_WAIT_SECONDS = 0.5
_ANSWER_SECONDS = 5.0


def require_ray() -> Any:
    """Returns the module `ray`.

    Raises:
      InputError: it is not installed.
    """
    # Read when Ray is imported or started. Nothing is reported to its makers unasked.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise InputError(
            f"a sweep needs Ray, which cannot be imported ({error}): {_INSTALL}; --dry_run lists "
            "the commands without it"
        ) from error
    return ray


@dataclasses.dataclass(frozen=True)
class Machine:
    """What one machine offers to runs."""

    cpus: int
    gpus: float


@contextlib.contextmanager
def connect(address: str | None) -> Iterator[list[Machine]]:
    """Yields the machines of the cluster at `address`; None for this machine alone.

    Raises:
      InputError: there is no cluster to connect to.
    """
    ray = require_ray()
    options = _local_options() if address is None else _remote_options(address)
    try:
        ray.init(**options, log_to_driver=False, logging_level="ERROR")
    except (OSError, ValueError, RuntimeError) as error:
        ray.shutdown()  # of what had been started
        where = "on this machine" if address is None else f"at --address={address}"
        raise InputError(f"Ray cannot be started {where}: {str(error) or type(error)}") from error
    try:
        yield [
            Machine(int(node["Resources"].get("CPU", 0)), node["Resources"].get("GPU", 0.0))
            for node in ray.nodes()
            if node["Alive"]
        ]
    finally:
        ray.shutdown()


def _local_options() -> dict[str, Any]:
    """Returns how Ray is started on this machine, and sets what its processes inherit."""
    os.environ["PYTHONPATH"] = _python_path()
    # Ray would end workers when memory runs short, but they need none: their runs do.
    os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")
    return {
        "address": "local",
        "num_cpus": _num_cores(),
        "object_store_memory": _LOCAL_STORE_BYTES,
        "include_dashboard": False,
    }


def _remote_options(address: str) -> dict[str, Any]:
    """Returns how a cluster is connected to, if there is one."""
    _require_answer(address)
    return {"address": address, "runtime_env": {"env_vars": {"PYTHONPATH": _python_path()}}}


def _python_path() -> str:
    """Returns what makes Ray's workers find this package, wherever they start."""
    return os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))


def _require_answer(address: str) -> None:
    """Checks that something listens at HOST:PORT; Ray itself tries for minutes.

    Raises:
      InputError: nothing does.
    """
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        return  # `auto`, or an address of another kind: Ray says what is wrong with it
    try:
        socket.create_connection((host, int(port)), _ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"no Ray cluster answers at --address={address}: {error}; start one there with "
            "ray start --head"
        ) from error


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclasses.dataclass(frozen=True)
class Share:
    """What one run gets of a machine, and how many run at once."""

    cpus: int
    gpus: float
    at_once: int


def share_out(
    machines: Sequence[Machine],
    num_runs: int,
    cpus: int | None = None,
    gpus: float | None = None,
) -> Share:
    """Returns what each run gets.

    Args:
      machines: what there is.
      num_runs: how many runs are to share it.
      cpus: CPUs per run; None for an even share.
      gpus: GPUs per run; None for one where there are any.

    Raises:
      InputError: no machine has as much.
    """
    if gpus is None:
        gpus = 1.0 if any(machine.gpus >= 1 for machine in machines) else 0.0
    if not math.isfinite(gpus) or gpus < 0 or (gpus > 1 and gpus != int(gpus)):
        raise InputError(f"gpus_per_run is {gpus:g}, but must be 0, a part of 1, or a count")
    if cpus is not None and cpus < 1:
        raise InputError(f"cpus_per_run is {cpus}, but must be a count of at least 1")
    fits = [machine for machine in machines if machine.gpus >= gpus]
    if cpus is None:
        total = sum(_slots(machine, 1, gpus) and machine.cpus for machine in fits)
        limit = sum(_slots(machine, 1, gpus) for machine in fits)
        even = total // max(1, min(num_runs, limit))
        cpus = max(1, min([even, *(machine.cpus for machine in fits if machine.cpus)]))
    at_once = sum(_slots(machine, cpus, gpus) for machine in fits)
    if at_once == 0:
        offered = ", ".join(f"{m.cpus} CPUs and {m.gpus:g} GPUs" for m in machines) or "none"
        raise InputError(
            f"no machine has {cpus} CPUs and {gpus:g} GPUs for a run (there is: {offered}); lower "
            "--cpus_per_run or --gpus_per_run"
        )
    return Share(cpus, gpus, min(at_once, num_runs))


def _slots(machine: Machine, cpus: int, gpus: float) -> int:
    """Returns how many runs fit on a machine at once."""
    by_cpu = machine.cpus // cpus
    if not gpus:
        return by_cpu
    by_gpu = int(machine.gpus) * int(1 / gpus) if gpus < 1 else int(machine.gpus // gpus)
    return min(by_cpu, by_gpu)


def run_jobs(
    jobs: Sequence[Job],
    share: Share,
    directory: str,
    pin: bool,
    signals: StopSignals,
    ended: Callable[[Job, Outcome], None],
) -> None:
    """Runs every job as a task of the cluster that `connect` connected to.

    Once `signals` say stop, runs save what they reached, and those not begun do not begin.

    Args:
      jobs: what to run.
      share: what each gets.
      directory: where their commands are run, on whatever machine.
      pin: whether each run is tied to cores of its own.
      signals: asks for an early end.
      ended: called for each job, in the order in which they end.
    """
    ray = require_ray()
    task = ray.remote(run_job).options(
        num_cpus=share.cpus, num_gpus=share.gpus, max_retries=_RESTARTS
    )
    cores = share.cpus if pin else 0
    waiting = {task.remote(job, directory, cores, share.gpus): job for job in jobs}
    cancelled = False
    while waiting:
        if signals.stopped() and not cancelled:
            for reference in waiting:
                ray.cancel(reference, force=False)
            cancelled = True
        for reference in ray.wait(list(waiting), timeout=_WAIT_SECONDS)[0]:
            ended(waiting.pop(reference), _outcome(ray, reference))


def _outcome(ray: Any, reference: Any) -> Outcome:
    try:
        return ray.get(reference)
    except ray.exceptions.TaskCancelledError:
        return Outcome(False, 0.0, "not begun")
    except ray.exceptions.RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return Outcome(False, 0.0, f"Ray lost it: {(lines or [type(error).__name__])[-1]}")
