"""Microseconds per update, alone and for populations, beside the matrix products in it.

    python -m benchmarks.update_throughput

Every configuration is a process of its own; in each round all have one turn. `members x devices`
is `update_many` as training calls it; `no member axis` the same updates in a plain scan; `products`
the matrix products of an update and nothing else, which is the floor. Compiling is apart.
"""

import argparse
import contextlib
import itertools
from typing import Any

from benchmarks import common
from benchmarks.protocol import Worker, ratio, take_turns

MODULE = "benchmarks.ours"

# In a turn. Training calls its program for 100 and more.
_FEWEST_UPDATES = 25


def main() -> None:
    """Measures, and writes the results file."""
    flags = common.parser(__doc__, rounds=7)
    common.add_work_flags(flags)
    flags.add_argument("--members", type=common.integers, default=[1, 2, 4, 8, 16])
    flags.add_argument(
        "--devices",
        type=common.integers,
        default=[1, 2],
        help="host devices the members are split over; ignored beside an accelerator",
    )
    flags.add_argument(
        "--hidden_dims",
        type=lambda text: [common.integers(part) for part in text.split(":")],
        default=[[64, 64], [256, 256], [512, 512], [1024, 1024]],
        help="network sizes, such as 256,256:512,512,512; --updates is for layers of 256 units",
    )
    flags.add_argument("--precision", default="float32", help="of matrix products")
    flags.add_argument("--vectorized", action="store_true", help="run members by vmap too")
    arguments = flags.parse_args()
    start = common.machine()
    sizes = [measure(arguments, hidden_dims) for hidden_dims in arguments.hidden_dims]
    results = {"device_kind": sizes[0]["device_kind"], "sizes": sizes}
    path = common.write("update_throughput", arguments, start, results)
    common.say(table(common.read(path)))


def measure(arguments: argparse.Namespace, hidden_dims: list[int]) -> dict[str, Any]:
    """Returns the results of all configurations with networks of one size."""
    shared = common.work_spec(arguments) | {
        "hidden_dims": hidden_dims,
        "precision": arguments.precision,
        # So that turns are about as long, whatever the size.
        "updates": max(_FEWEST_UPDATES, arguments.updates * 256**2 // max(hidden_dims) ** 2),
    }
    specs: dict[str, dict[str, Any]] = {
        "products": {"program": "products"},
        "no member axis": {"program": "no_member_axis"},
    }
    for members, devices in itertools.product(arguments.members, arguments.devices):
        if members % devices:
            continue
        spec = {"program": "population", "members": members, "devices": devices}
        # Populations make fewer updates in a turn, so that no turn is much longer than another; but
        # not few, since a call begins and ends with copying the members' states.
        spec["updates"] = max(_FEWEST_UPDATES, shared["updates"] // members)
        specs[f"{members} x {devices}"] = spec
        if arguments.vectorized and members > devices:
            specs[f"{members} x {devices} by vmap"] = spec | {"vectorized": True}
    with contextlib.ExitStack() as stack:
        workers, facts = {}, {}
        for name, spec in specs.items():
            worker = stack.enter_context(Worker(MODULE, shared | spec))
            facts[name] = worker.facts()  # one after another: compiling is timed
            workers[name] = worker
            common.say(f"{hidden_dims} {name}: compiled in {facts[name]['compile_seconds']:.1f} s")
        results = take_turns(workers, arguments.rounds)
    for name, result in results.items():
        result |= facts[name]
        result["of_floor"] = ratio(results["products"], result)
        result["to_no_member_axis"] = ratio(result, results["no member axis"])
    return {
        "hidden_dims": hidden_dims,
        "device_kind": facts["products"]["device_kind"],
        "programs": results,
    }


def table(result: dict[str, Any]) -> str:
    """Returns the results as Markdown."""
    header = ["networks", "members x devices", "us per member-update", "GFLOP/s"]
    header += ["share of products' rate", "compile s", "peak memory MB"]
    rows = []
    for size in result["results"]["sizes"]:
        for name, program in size["programs"].items():
            rate = program["flops_per_update"] / program["median"] / 1e3
            rows.append(
                [
                    " x ".join(map(str, size["hidden_dims"])),
                    name,
                    common.with_range(program),
                    f"{rate:,.0f}",
                    f"{program['of_floor']['median']:.2f}",
                    f"{program['compile_seconds']:.1f}",
                    f"{program['peak_bytes'] / 1e6:,.0f}",
                ]
            )
    return common.markdown(header, rows)


if __name__ == "__main__":
    main()
