"""Runs a grid of configs, environments and seeds, on this machine or on a Ray cluster.

    python -m iql_jax.sweep --configs=configs/antmaze.py \\
        --envs=antmaze-umaze-v2,antmaze-large-play-v2 --num_seeds=10 --root=runs/grid \\
        -- --max_steps=1000000

Flags after `--` go to every run. Each run is the entry point's own, in ROOT/ENVIRONMENT/CONFIG, its
output beside it in CONFIG.log. The same command again continues what was not finished and ends with
the table of scores; the exit status is 0 when every run is finished.
"""

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from iql_jax.errors import InputError
from iql_jax.report import runs, tables
from iql_jax.report.groups import group_runs
from iql_jax.report.summary import duration
from iql_jax.sweep import cluster, grid
from iql_jax.sweep.grid import Job
from iql_jax.sweep.task import Outcome
from iql_jax.training.interrupt import StopSignals


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m iql_jax.sweep",
        usage="%(prog)s --configs=FILE,... --root=DIR [...] [-- FLAG...]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--configs", required=True, metavar="FILE,...", help="config files")
    add("--envs", default="", metavar="NAME,...", help="environments; default: each config's own")
    add("--seed", type=int, default=0, help="first seed; default 0")
    add("--num_seeds", type=int, default=1, help="seeds, trained together; default 1")
    add("--seeds_per_run", type=int, help="how many seeds one run trains together; default: all")
    add("--root", type=Path, required=True, metavar="DIR", help="directory of the sweep")
    add("--address", help="of a Ray cluster, HOST:PORT or auto; default: this machine alone")
    add("--cpus_per_run", type=int, help="default: an even share")
    add("--gpus_per_run", type=float, help="default: 1 where there are any; 0.5 puts two on one")
    add("--no_pin", action="store_true", help="do not tie each run to cores of its own")
    add("--dry_run", action="store_true", help="list the commands and end")
    return parser


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Returns the sweep's own options, and the flags of its runs."""
    own, flags = list(arguments), []
    if "--" in own:
        place = own.index("--")
        own, flags = own[:place], own[place + 1 :]
    parsed, unknown = _parser().parse_known_args(own)
    if unknown:
        raise InputError(f"unknown option {unknown[0]!r}; flags of the runs go after --")
    return parsed, flags


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _say(text: str) -> None:
    print(text, flush=True)


def _sweep(options: argparse.Namespace, flags: Sequence[str]) -> int:
    configs = _names(options.configs)
    if not configs:
        raise InputError("--configs names no config file; see --help")
    jobs = grid.make_jobs(
        root=options.root.expanduser().absolute(),
        configs=configs,
        env_names=_names(options.envs),
        seed=options.seed,
        num_seeds=options.num_seeds,
        seeds_per_run=options.seeds_per_run,
        flags=flags,
    )
    record = grid.Record(jobs[0].root)
    left = [job for job in jobs if not record.has(job)]
    if options.dry_run:
        for job in jobs:
            mark = "" if job in left else "# finished: "
            _say(mark + shlex.join(["python", *job.arguments]))
        return 0
    _say(f"sweep        {len(jobs)} runs, {len(jobs) - len(left)} of them finished before")
    unfinished, status = _train(options, left, record) if left else ({}, 0)
    _tell_scores([job for job in jobs if job not in unfinished])
    for job, outcome in unfinished.items():
        _say(f"unfinished   {job.name}: {outcome.message}")
        _say(f"             {job.log}")
    if unfinished:
        _say("the same command continues what is unfinished")
        return status or 1
    return 0


def _train(
    options: argparse.Namespace, left: Sequence[Job], record: grid.Record
) -> tuple[dict[Job, Outcome], int]:
    """Runs what is left; returns what did not finish, and the status of a signal or 0."""
    cluster.require_ray()
    grid.check_arguments(left)
    unfinished: dict[Job, Outcome] = {}
    num_ended = 0

    def ended(job: Job, outcome: Outcome) -> None:
        nonlocal num_ended
        num_ended += 1
        if outcome.finished:
            record.add(job)
        else:
            unfinished[job] = outcome
        told = "finished" if outcome.finished else f"unfinished: {outcome.message}"
        _say(f"[{num_ended}/{len(left)}] {job.name} {told} ({duration(outcome.seconds)})")

    with cluster.connect(options.address) as machines:
        share = cluster.share_out(machines, len(left), options.cpus_per_run, options.gpus_per_run)
        _make(left[0].root)
        _say(
            f"machines     {len(machines)}; {share.cpus} CPU(s) and {share.gpus:g} GPU(s) for each "
            f"run, {share.at_once} at once"
        )
        _say(f"output       {left[0].root}/ENVIRONMENT/CONFIG.log")
        with StopSignals() as signals:
            cluster.run_jobs(left, share, os.getcwd(), not options.no_pin, signals, ended)
    return unfinished, signals.exit_status


def _make(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot make '{root}': {error.strerror or error}; choose another --root"
        ) from error


def _tell_scores(finished: Sequence[Job]) -> None:
    """Prints the table of the runs that are finished and were evaluated."""
    found = runs.find_runs([job.run_dir for job in finished])
    scored = [run for run in found if run.evaluations]
    _say("")
    if not scored:
        _say("no finished run has scores" if finished else "no run is finished")
        return
    try:
        _say(tables.results_table(group_runs(scored)))
    except InputError as error:  # such as runs without a common evaluation, after a longer one
        _say(f"no table     {error}")
    _say("")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status of the command line `arguments`: 0 if every run is finished.

    1 if some run is not, 2 for bad input, and 128 plus the number of a signal.
    """
    try:
        return _sweep(*_parse(sys.argv[1:] if arguments is None else arguments))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
