"""Processes that train one population together: each some of its members, the first leads.

Members never need each other, so every process trains its own by the same program as one process
would. What the processes exchange is what is logged and saved, between calls of that program: then
all know the same and decide the same, and the first alone writes the run's directory.
"""

import contextlib
import dataclasses
import io
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from iql_jax.config import RunConfig
from iql_jax.errors import InputError
from iql_jax.report import loggers
from iql_jax.training import run_directory
from iql_jax.training.problem import Problem
from iql_jax.training.run_directory import RunOptions


@dataclasses.dataclass(frozen=True)
class Team:
    """This process and how many there are.

    Every process must call the methods below in the same order: each waits for all others.
    """

    index: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes the run's directory."""
        return self.index == 0

    def share(self, num_members: int) -> slice:
        """Returns which members this process trains.

        Raises:
          InputError: the processes cannot share them evenly.
        """
        if num_members % self.size:
            raise InputError(
                f"{num_members} members for {self.size} processes: every process trains as many, "
                f"so let --num_seeds and --sweep make a multiple of {self.size}"
            )
        each = num_members // self.size
        return slice(self.index * each, (self.index + 1) * each)

    def exchange(self, value: Any) -> list[Any]:
        """Returns the values of all processes, in their order."""
        if self.size == 1:
            return [value]
        from jax.experimental import multihost_utils

        data = np.frombuffer(pickle.dumps(value), np.uint8)
        lengths = multihost_utils.process_allgather(np.array([len(data)], np.int32), tiled=True)
        # Lengths are rounded up so that few programs are compiled.
        padded = np.zeros(1 << int(max(lengths) - 1).bit_length(), np.uint8)
        padded[: len(data)] = data
        rows = multihost_utils.process_allgather(padded[None], tiled=True)
        return [pickle.loads(row[:length]) for row, length in zip(rows, lengths, strict=True)]

    def gather(self, arrays: Any) -> Any:
        """Returns arrays of this process's members as NumPy arrays of all members."""
        shares = self.exchange(jax.device_get(arrays))
        return jax.tree.map(lambda *parts: np.concatenate(parts), *shares)

    def by_leader(self, function: Callable[[], Any]) -> Any:
        """Returns the function's value in the first process, which alone calls it.

        Raises:
          InputError: that process's, in all.
        """
        told: Any = None
        if self.leads:
            try:
                told = function()
            except InputError as error:
                told = error
        told = self.exchange(told)[0]
        if isinstance(told, InputError):
            raise told
        return told


def current_team() -> Team:
    """Returns the team that this process is in: alone unless it was joined by `join`."""
    return Team(jax.process_index(), jax.process_count())


def join(coordinator_address: str, num_processes: int, process_id: int) -> None:
    """Joins this process with the others of a run, before JAX looks for devices.

    Args:
      coordinator_address: HOST:PORT, where the first process listens and all others reach it.
      num_processes: how many there are.
      process_id: which this is, counted from 0.

    Raises:
      InputError: numbers that make no sense, or the others cannot be reached.
    """
    if num_processes < 1 or not 0 <= process_id < num_processes:
        raise InputError(
            f"--process_id={process_id} of --num_processes={num_processes}, but processes are "
            "numbered from 0 to one below their number"
        )
    if ":" not in coordinator_address:
        raise InputError(
            f"--coordinator_address={coordinator_address}, but must be HOST:PORT of the process "
            "with --process_id=0"
        )
    # SIGTERM is for the training loop, which tells all processes.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(coordinator_address, num_processes, process_id)
    except RuntimeError as error:
        raise InputError(
            f"process {process_id} of {num_processes} cannot join at {coordinator_address}: {error}"
        ) from error


def follow(
    team: Team, config: RunConfig, options: RunOptions, stack: contextlib.ExitStack
) -> RunOptions:
    """Returns the options of this process: those that do not lead work and keep silent.

    What they write, the same as the first, goes to a folder that is removed at the end.

    Raises:
      InputError: what is asked for runs in one process alone.
    """
    if team.size > 1 and config.online is not None:
        raise InputError("finetuning runs in one process; several may train offline")
    if team.size > 1 and options.evaluate_beside == "always":
        raise InputError("several processes evaluate in place; leave out --evaluate_beside=always")
    if team.leads:
        return options
    for redirect in (contextlib.redirect_stdout, contextlib.redirect_stderr):
        stack.enter_context(redirect(io.StringIO()))
    return dataclasses.replace(
        options,
        save_dir=stack.enter_context(tempfile.TemporaryDirectory()),
        wandb=None,
        tensorboard=False,
        record_video=False,
    )


def claim(
    team: Team,
    config: RunConfig,
    options: RunOptions,
    identity: dict[str, Any],
    stack: contextlib.ExitStack,
) -> tuple[Path, Any, bool]:
    """Returns the run's directory, the lock on it, and whether a run was begun there.

    Raises:
      InputError: it cannot be used.
    """
    locks: list[Any] = []

    def prepare() -> tuple[Path, bool]:
        run_dir = run_directory.prepare(
            options.save_dir, options.resume, config.dataset_name, config.agent, identity
        )
        locks.append(stack.enter_context(loggers.lock_run(run_dir)))
        # Once more, now that no other process can begin or end a run there.
        run_directory.prepare(str(run_dir), options.resume, "", "", identity)
        return run_dir, run_directory.holds_run(run_dir)

    run_dir, resumed = team.by_leader(prepare)
    if not team.leads:
        run_dir = Path(options.save_dir or "")
        locks.append(stack.enter_context(loggers.lock_run(run_dir)))
    return run_dir, locks[0], resumed


def load_alike(team: Team, load: Callable[[], Problem]) -> Problem:
    """Returns the problem, loaded by each process, by the first before the others.

    It makes or downloads what is missing, where they share a disk.

    Raises:
      InputError: it cannot be loaded, or the processes hold different data.
    """
    loaded: list[Problem] = []
    team.by_leader(lambda: loaded.append(load()))
    problem = loaded[0] if loaded else load()
    fingerprints = team.exchange(problem.dataset["fingerprint"])
    if len(set(fingerprints)) > 1:
        raise InputError(
            f"the processes hold different data: {problem.dataset['name']} has the fingerprints "
            f"{', '.join(fingerprints)}; copy one file to all hosts"
        )
    return problem
