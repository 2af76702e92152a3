"""How the time of an update grows with rows, batch, members and devices.

    python -m benchmarks.scaling

One axis at a time, from the paper's sizes (a million rows, batch 256, one member, one device); the
points of an axis take turns, each in a process of its own. Sizes that need more memory than is free
are left out and named.
"""

import argparse
import contextlib
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.protocol import Worker, take_turns
from iql_jax.data import replay

MODULE = "benchmarks.ours"
AXES = ("rows", "batch_size", "members", "devices")


def main() -> None:
    """Measures, and writes the results file."""
    flags = common.parser(__doc__, rounds=5)
    common.add_work_flags(flags)
    lists = {
        "rows_list": [10_000, 100_000, 1_000_000, 10_000_000],
        "batch_size_list": [64, 128, 256, 512, 1024, 2048, 4096],
        "members_list": [1, 2, 4, 8, 16],
        "devices_list": [1, 2],
    }
    for name, default in lists.items():
        flags.add_argument(f"--{name}", type=common.integers, default=default)
    flags.add_argument("--axes", default=",".join(AXES), help="which to measure")
    flags.add_argument("--members_on_devices", type=int, default=4, help="members on devices")
    arguments = flags.parse_args()
    start = common.machine()
    results: dict[str, Any] = {axis: measure(arguments, axis) for axis in arguments.axes.split(",")}
    points = [point for axis in results.values() for point in axis["points"]]
    results["device_kind"] = points[0]["device_kind"]
    path = common.write("scaling", arguments, start, results)
    common.say(table(common.read(path)))


def measure(arguments: argparse.Namespace, axis: str) -> dict[str, Any]:
    """Returns the results along one axis."""
    shared = common.work_spec(arguments) | {"program": "population"}
    if axis == "devices":
        shared["members"] = arguments.members_on_devices
    points: dict[str, dict[str, Any]] = {}
    left_out = []
    with contextlib.ExitStack() as stack:
        workers = {}
        for value in getattr(arguments, f"{axis}_list"):
            spec = shared | {axis: value}
            # As much work in a turn whatever the size.
            heavier = spec["batch_size"] / 256 * spec.get("members", 1)
            spec["updates"] = max(1, int(arguments.updates / max(1.0, heavier)))
            if memory_needed(spec) > memory_free():
                left_out.append(f"{axis} {value:,}")
                continue
            worker = stack.enter_context(Worker(MODULE, spec))
            points[str(value)] = worker.facts()
            workers[str(value)] = worker
            common.say(f"{axis} {value:,} is ready")
        results = take_turns(workers, arguments.rounds)
    return {
        "points": [{axis: int(name)} | points[name] | result for name, result in results.items()],
        "left_out": left_out,
    }


def memory_needed(spec: dict[str, Any]) -> float:
    """Returns bytes: the made-up fields, the packed rows, and the device's copy of those."""
    width = replay.row_width(spec["observation_dim"], spec["action_dim"])
    return 3 * 4.0 * width * spec["rows"]


def memory_free() -> float:
    """Returns the bytes that can be had, less a gigabyte."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # not Linux: the user chooses the sizes
        return float("inf")
    kilobytes = {line.split(":")[0]: line.split()[1] for line in lines}
    return 1024 * float(kilobytes["MemAvailable"]) - 1e9


def table(result: dict[str, Any]) -> str:
    """Returns the results as Markdown."""
    header = ["axis", "value", "us per member-update", "ns per transition", "peak memory MB"]
    batch_size = int(result["flags"]["batch_size"])
    rows, notes = [], []
    for axis, measured in result["results"].items():
        if axis == "device_kind":
            continue
        for point in measured["points"]:
            batch = point.get("batch_size", batch_size)
            rows.append(
                [
                    axis,
                    f"{point[axis]:,}",
                    common.with_range(point),
                    f"{1e3 * point['median'] / batch:,.0f}",
                    f"{point['peak_bytes'] / 1e6:,.0f}",
                ]
            )
        notes += [f"- left out for want of memory: {name}" for name in measured["left_out"]]
    return "\n".join([common.markdown(header, rows), "", *notes]).rstrip()


if __name__ == "__main__":
    main()
