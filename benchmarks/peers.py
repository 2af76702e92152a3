"""The same work by published codes, taking turns with this project's in one run.

    python -m benchmarks.peers --peers=DIR [--python CORL=/path/to/python]

DIR holds checkouts by their repositories' names: implicit_q_learning, JAX-CORL, unifloral, CORL,
IDQL; those that are missing are left out. Same made-up transitions, same sizes, batch and number
of updates; every code in a process of its own and as its own training loop runs it. Only packages
that the update does not need are replaced by stand-ins (`stand_ins.py`); the update is untouched.
A code with other requirements runs in the interpreter that `--python` names for it: CORL needs
torch. For CORL the number of threads is searched first.
"""

import argparse
import contextlib
import os
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.peer_codes import PEERS
from benchmarks.protocol import Worker, WorkerError, ratio, take_turns
from iql_jax.agents import AGENTS

OURS = "benchmarks.ours"
CODES = "benchmarks.peer_codes"
MEMBERS = 4
OUR_IDQL = "ours, IDQL"


def main() -> None:
    """Measures, and writes the results file."""
    flags = common.parser(__doc__, rounds=7)
    common.add_work_flags(flags)
    flags.add_argument("--peers", type=Path, required=True, help="folder of checkouts")
    flags.add_argument("--only", default=",".join(PEERS), help="names, separated by commas")
    flags.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="interpreter for a code; may be repeated",
    )
    arguments = flags.parse_args()
    start = common.machine()
    results = measure(arguments)
    path = common.write("peers", arguments, start, results)
    common.say(table(common.read(path)))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the times of all codes, and why some did not run."""
    spec = common.work_spec(arguments)
    pythons = dict(pair.split("=", 1) for pair in arguments.python)
    with contextlib.ExitStack() as stack:
        workers: dict[str, Worker] = {}
        facts: dict[str, dict[str, Any]] = {}
        failures: dict[str, str] = {}

        def add(name: str, module: str, spec: dict[str, Any], **options: Any) -> None:
            try:
                worker = Worker(module, spec, **options)
                stack.callback(worker.close)
                facts[name] = worker.facts()
            except (WorkerError, OSError) as error:
                failures[name] = str(error)
                common.say(f"{name} does not run: {error}")
                return
            workers[name] = worker
            common.say(f"{name} is ready")

        names = arguments.only.split(",")
        for name, own in own_specs(spec, common.records.cpu_cores()).items():
            if name != OUR_IDQL or "IDQL" in names:
                add(name, OURS, own)
        for name in names:
            checkout = find_checkout(arguments.peers, PEERS[name].folders)
            if checkout is None:
                failures[name] = f"no checkout {PEERS[name].folders[0]} in the folder"
                continue
            theirs = spec | {"peer": name, "checkout": str(checkout)}
            options = {"python": pythons[name]} if name in pythons else {}
            if name == "CORL":
                try:
                    theirs["threads"] = best_threads(theirs, options)
                except (WorkerError, OSError) as error:
                    failures[name] = str(error)
                    continue
            add(name, CODES, theirs, **options)
        programs = take_turns(workers, arguments.rounds)
    for name, program in programs.items():
        counterpart = OUR_IDQL if name == "IDQL" and OUR_IDQL in programs else "ours"
        program |= facts[name] | {"counterpart": counterpart}
        program["to_ours"] = ratio(program, programs[counterpart])
        program["differs"] = PEERS[name].differs if name in PEERS else ""
    return {
        "device_kind": facts["ours"]["device_kind"],
        "programs": programs,
        "failures": failures,
    }


def own_specs(spec: dict[str, Any], cores: int) -> dict[str, dict[str, Any]]:
    """Returns the specs of this project's programs: one member, several over the cores, IDQL."""
    devices = max(n for n in range(1, MEMBERS + 1) if MEMBERS % n == 0 and n <= cores)
    several = {
        "members": MEMBERS,
        "devices": devices,
        "updates": max(1, spec["updates"] // MEMBERS),
    }
    own = {
        "ours": spec | {"program": "population"},
        f"ours, {MEMBERS} members": spec | {"program": "population"} | several,
    }
    if "idql" in AGENTS:
        own[OUR_IDQL] = spec | {"program": "population", "agent": "idql"}
    return own


def find_checkout(folder: Path, names: tuple[str, ...]) -> Path | None:
    """Returns the first folder of these names, however its case."""
    wanted = {name.lower() for name in names}
    found = [path for path in sorted(folder.iterdir()) if path.name.lower() in wanted]
    return found[0] if found else None


def best_threads(spec: dict[str, Any], options: dict[str, Any]) -> int:
    """Returns the number of threads with which a torch code is fastest here.

    Raises:
      WorkerError: it does not run.
    """
    counts = sorted({1, *(n for n in (2, 4, 8, 16) if n <= (os.cpu_count() or 1))})
    seconds = {}
    for threads in counts:
        few = spec | {"threads": threads, "updates": max(1, spec["updates"] // 10)}
        environment = {"OMP_NUM_THREADS": str(threads)}
        with Worker(CODES, few, environment=environment, **options) as worker:
            worker.facts()
            seconds[threads] = min(worker.turn()["seconds"] for _ in range(3))
        common.say(f"{spec['peer']} with {threads} threads: {seconds[threads]:.2f} s")
    return min(seconds, key=seconds.__getitem__)


def table(result: dict[str, Any]) -> str:
    """Returns the results as Markdown."""
    results = result["results"]
    header = ["code", "us per update", "time / ours", "time / ours per FLOP", "MFLOP per update"]
    rows, notes = [], []
    for name, program in results["programs"].items():
        relative, ours = program["to_ours"], results["programs"][program["counterpart"]]
        flops = program.get("flops_per_update")
        per_flop = relative["median"] * ours["flops_per_update"] / flops if flops else None
        rows.append(
            [
                name,
                common.with_range(program),
                common.with_range(relative, "{:.2f}".format),
                "" if per_flop is None else f"{per_flop:.2f}",
                f"{flops / 1e6:.0f}" if flops else "",
            ]
        )
        if program["differs"]:
            notes.append(f"- {name}: {program['differs']}")
    notes += [f"- {name} did not run: {why}" for name, why in results["failures"].items()]
    return "\n".join([common.markdown(header, rows), "", *notes])


if __name__ == "__main__":
    main()
