"""Finetuning's loop beside the authors' own, and what in it is neither update nor physics.

    python -m benchmarks.online_loop --peers=DIR

DIR holds a checkout of the authors' code, implicit_q_learning. Its `train_finetune.py` runs as it
is, in the same environment, on the same made-up data, with the same settings; only packages that
it does not compute with are replaced (`stand_ins.py`). In the same rounds, each in a process of its
own: our loop with one member and with several; the bare compiled update of as many members, many
in one program as offline training runs it; and the bare environments in a plain loop. What our loop
takes beyond these two is overhead. One update per environment step; no evaluation, no checkpoint.
"""

import argparse
import contextlib
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.online_work import sizes
from benchmarks.peers import find_checkout
from benchmarks.protocol import Worker, ratio, spread, take_turns
from iql_jax.training.population import host_devices

WORK = "benchmarks.online_work"
UPDATE = "benchmarks.ours"
AUTHORS = "authors"


def main() -> None:
    """Measures, and writes the results file."""
    flags = common.parser(__doc__, rounds=25)
    flags.add_argument("--peers", type=Path, required=True, help="folder of checkouts")
    flags.add_argument("--env_name", default="antmaze-medium-play-v2", help="where to act")
    flags.add_argument("--members", type=common.integers, default=[1, 4], help="of our loop")
    flags.add_argument("--rows", type=int, default=200_000, help="transitions (default 2e5)")
    flags.add_argument("--batch_size", type=int, default=256, help="per update (default 256)")
    flags.add_argument("--steps", type=int, default=200, help="environment steps per turn")
    arguments = flags.parse_args()
    start = common.machine()
    path = common.write("online_loop", arguments, start, measure(arguments))
    common.say(table(common.read(path)))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the times of all programs, and for our loops the ratios and the overhead."""
    spec = {
        "env_name": arguments.env_name,
        "rows": arguments.rows,
        "batch_size": arguments.batch_size,
        "steps": arguments.steps,
    }
    checkout = find_checkout(arguments.peers, ("implicit_q_learning",))
    if checkout is None:
        raise SystemExit(f"error: no checkout implicit_q_learning in {arguments.peers}")
    with contextlib.ExitStack() as stack:
        workers = {}
        for name, (module, own) in specs(spec, str(checkout), arguments.members).items():
            workers[name] = stack.enter_context(Worker(module, own))
            workers[name].facts()
            common.say(f"{name} is ready")
        programs = take_turns(workers, arguments.rounds)
    for members in arguments.members:
        loop = programs[f"ours, {members}"]
        loop["authors_to_ours"] = ratio(programs[AUTHORS], loop)
        loop |= overhead(loop, programs[f"update, {members}"], programs[f"environment, {members}"])
    return {"programs": programs, "members": arguments.members}


def specs(
    spec: dict[str, Any], checkout: str, members: list[int]
) -> dict[str, tuple[str, dict[str, Any]]]:
    """Returns by name the module and the spec of each program."""
    observation_dim, action_dim = sizes(spec["env_name"])
    update = {
        "program": "population",
        "observation_dim": observation_dim,
        "action_dim": action_dim,
        "rows": spec["rows"],
        "batch_size": spec["batch_size"],
        "updates": spec["steps"],
    }
    found = {AUTHORS: (WORK, spec | {"program": "authors", "checkout": checkout})}
    for count in members:
        population = {
            "members": count,
            "devices": host_devices(count, common.records.cpu_cores()),
        }
        found[f"ours, {count}"] = (WORK, spec | population | {"program": "ours"})
        found[f"update, {count}"] = (UPDATE, update | population)
        found[f"environment, {count}"] = (WORK, spec | population | {"program": "environment"})
    return found


def overhead(
    loop: dict[str, Any], update: dict[str, Any], environment: dict[str, Any]
) -> dict[str, Any]:
    """Returns the spreads over rounds of what is neither update nor physics.

    `other` in microseconds per member and step, `other_share` of the whole step.
    """
    rounds = zip(loop["rounds_us"], update["rounds_us"], environment["rounds_us"], strict=True)
    other = [whole - (one + physics) for whole, one, physics in rounds]
    share = [part / whole for part, whole in zip(other, loop["rounds_us"], strict=True)]
    return {"other": spread(other), "other_share": spread(share)}


def table(result: dict[str, Any]) -> str:
    """Returns the results as Markdown."""
    results = result["results"]
    programs = results["programs"]
    header = ["loop", "steps/s = updates/s", "us per member's step", "update", "physics"]
    header += ["other", "other's share", "authors' time / ours"]
    authors = programs[AUTHORS]
    rate = f"{1e6 / authors['median']:,.0f}"
    rows = [["the authors'", rate, common.with_range(authors), *[""] * 4, "1"]]
    for members in results["members"]:
        loop = programs[f"ours, {members}"]
        rows.append(
            [
                f"ours, {members} member" + ("s" if members > 1 else ""),
                f"{1e6 / loop['median']:,.0f}",
                common.with_range(loop),
                f"{programs[f'update, {members}']['median']:,.0f}",
                f"{programs[f'environment, {members}']['median']:,.0f}",
                common.with_range(loop["other"]),
                common.with_range(loop["other_share"], "{:.1%}".format),
                common.with_range(loop["authors_to_ours"], "{:.2f}".format),
            ]
        )
    name = result["flags"]["env_name"]
    return f"`{name}`\n\n" + common.markdown(header, rows)


if __name__ == "__main__":
    main()
