"""The tables of benchmarks/README.md, made from the results files.

    python -m benchmarks.table            writes them
    python -m benchmarks.table --check    exits with 1 where they are not what the files say

Between `<!-- NAME -->` and `<!-- end NAME -->` stands, for each hardware, the newest result of that
benchmark, with what it was measured on and by which command.
"""

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import (
    common,
    end_to_end,
    kernel_count,
    lockstep,
    online_loop,
    peers,
    scaling,
    update_throughput,
)

README = Path(__file__).resolve().parent / "README.md"
TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "update_throughput": update_throughput.table,
    "peers": peers.table,
    "online_loop": online_loop.table,
    "end_to_end": end_to_end.table,
    "scaling": scaling.table,
    "kernel_count": kernel_count.table,
    "lockstep": lockstep.table,
}


def main() -> None:
    """Writes the tables, or checks them."""
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("--check", action="store_true")
    arguments = flags.parse_args()
    old = README.read_text()
    new = fill(old, newest(common.RESULTS))
    if arguments.check and new != old:
        sys.exit("benchmarks/README.md is out of date: python -m benchmarks.table")
    README.write_text(new)


def newest(folder: Path) -> list[dict[str, Any]]:
    """Returns the newest result of each benchmark on each hardware, in the order of their names."""
    latest: dict[tuple[str, str], dict[str, Any]] = {}
    for path in sorted(folder.glob("*.json")):
        result = common.read(path)
        key = (result["benchmark"], result["hardware"])
        if key not in latest or result["machine"]["date"] >= latest[key]["machine"]["date"]:
            latest[key] = result
    return [latest[key] for key in sorted(latest)]


def fill(text: str, results: list[dict[str, Any]]) -> str:
    """Returns the text with the tables between their marks.

    Raises:
      ValueError: a mark is missing.
    """
    for name in TABLES:
        marks = f"(<!-- {name} -->\n).*?(<!-- end {name} -->)"
        tables = [section(result) for result in results if result["benchmark"] == name]
        content = "\n".join(tables) if tables else "Not measured yet.\n"
        if not re.search(marks, text, re.DOTALL):
            raise ValueError(f"benchmarks/README.md lacks the marks of {name}")
        text = re.sub(
            marks, lambda found, content=content: found[1] + content + found[2], text, flags=re.S
        )
    return text


def section(result: dict[str, Any]) -> str:
    """Returns one result: where and how it was measured, and its table."""
    machine = result["machine"]
    versions = machine["versions"]
    commit = (machine["git"] or {}).get("commit", "unknown")[:10]
    if (machine["git"] or {}).get("modified"):
        commit += " with changes"
    facts = [
        result["hardware"],
        f"Python {versions['python']}, jax {versions['jax']}",
        f"commit {commit}",
        machine["date"][:10],
        f"load average before {machine['load_average']:.1f}",
        f"`{machine['command']}`",
    ]
    lines = ["; ".join(facts)]
    if note := result["flags"].get("note"):
        lines.append(f"({note})")
    return "\n\n".join([*lines, TABLES[result["benchmark"]](result)]) + "\n"


if __name__ == "__main__":
    main()
