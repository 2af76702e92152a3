"""What every benchmark shares: its flags, the record of the machine, and its results file."""

import argparse
import datetime
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from iql_jax.report import records

RESULTS = Path(__file__).resolve().parent / "results"

# Observation and action sizes by the name of the task they are of.
DIMS = {"hopper": (11, 3), "halfcheetah": (17, 6), "antmaze": (29, 8), "pen": (45, 24)}


def parser(doc: str, rounds: int) -> argparse.ArgumentParser:
    """Returns a parser with the flags of every benchmark.

    Args:
      doc: the module's documentation.
      rounds: the default of `--rounds`.
    """
    flags = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("--rounds", type=int, default=rounds, help=f"rounds (default {rounds})")
    flags.add_argument(
        "--results", type=Path, default=RESULTS, help="folder of results (default: this one's)"
    )
    flags.add_argument("--note", default="", help="a remark to keep with the results")
    return flags


def add_work_flags(flags: argparse.ArgumentParser) -> None:
    """Adds the flags that shape an update."""
    flags.add_argument(
        "--dims", choices=DIMS, default="halfcheetah", help="observation and action sizes"
    )
    flags.add_argument("--rows", type=int, default=1_000_000, help="transitions (default 1e6)")
    flags.add_argument("--batch_size", type=int, default=256, help="per update (default 256)")
    flags.add_argument("--updates", type=int, default=1000, help="per turn (default 1000)")


def integers(text: str) -> list[int]:
    """Returns the integers of a list such as `1,2,4`; `1e6` is one too."""
    return [int(float(part)) for part in text.split(",") if part]


def work_spec(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns what the flags of `add_work_flags` say, for `ours.build` and `peer_codes.build`."""
    observation_dim, action_dim = DIMS[arguments.dims]
    return {
        "observation_dim": observation_dim,
        "action_dim": action_dim,
        "rows": arguments.rows,
        "batch_size": arguments.batch_size,
        "updates": arguments.updates,
    }


def machine() -> dict[str, Any]:
    """Returns hardware, versions, commit, command, date and how busy the machine is."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python -m", _module(), *sys.argv[1:]]),
        "cpu_model": records.cpu_model(),
        "cpu_cores": records.cpu_cores(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "versions": records.package_versions(),
        "git": records.git_state(Path(__file__).resolve().parents[1]),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def _module() -> str:
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    return spec.name if spec is not None else Path(sys.argv[0]).stem


def write(
    name: str, arguments: argparse.Namespace, start: dict[str, Any], results: dict[str, Any]
) -> Path:
    """Writes a results file, and returns its path: `NAME-HARDWARE-DATE.json`.

    Args:
      name: the benchmark.
      arguments: its flags.
      start: `machine()` before anything was measured.
      results: what was measured; `device_kind` names the device if it is no CPU.
    """
    flags = {key: str(value) for key, value in vars(arguments).items() if key != "results"}
    kind = results.get("device_kind", "cpu")
    hardware = f"{start['cpu_model']} x{start['cpu_cores']}" if kind == "cpu" else kind
    value = {"benchmark": name, "hardware": hardware, "flags": flags, "machine": start}
    arguments.results.mkdir(parents=True, exist_ok=True)
    slug = re.sub(r"[^a-z0-9]+", "-", hardware.lower()).strip("-")
    path = arguments.results / f"{name}-{slug}-{start['date'][:10]}.json"
    records.write_json(path, {**value, "results": results})
    print(f"wrote {path}", flush=True)
    return path


def read(path: Path) -> dict[str, Any]:
    """Returns the content of a results file."""
    return json.loads(path.read_text())


def say(text: str) -> None:
    """Prints a line at once."""
    print(text, flush=True)


def markdown(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Returns a table; the first column is text, the others are numbers to the right."""
    lines = ["| " + " | ".join(header) + " |"]
    lines.append("|" + "|".join([" --- ", *[" ---: "] * (len(header) - 1)]) + "|")
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def with_range(result: dict[str, Any], unit: Callable[[float], str] = "{:,.0f}".format) -> str:
    """Returns `median (min-max)` of a spread."""
    low, middle, high = (unit(result[key]) for key in ("min", "median", "max"))
    return f"{middle} ({low}-{high})"
