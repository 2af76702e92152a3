"""Where the time of a whole run goes, with the paper's evaluation protocol and without.

    python -m benchmarks.end_to_end [-- flags of train_offline.py]

Runs the real command, `train_offline.py`, in a new process and a new folder: with 10 episodes
every 5,000 updates, and with --noevaluate, taking turns. A short run gives the seconds of each
phase; from its rates follow those of a million updates. A first run, not counted, makes or
downloads the data.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.protocol import REPOSITORY, spread

PHASES = ("import", "data", "compile", "train", "evaluate", "checkpoint", "report")
# What grows with the number of updates; the rest is once a run.
GROWING = ("train", "evaluate", "checkpoint")
PROTOCOL = ["--eval_episodes=10", "--eval_interval=5000"]


def main() -> None:
    """Measures, and writes the results file."""
    flags = common.parser(__doc__, rounds=3)
    flags.add_argument("--max_steps", type=int, default=20_000, help="updates of the short run")
    flags.add_argument("train_flags", nargs="*", help="flags of train_offline.py, after --")
    arguments = flags.parse_args()
    start = common.machine()
    runs: dict[str, list[dict[str, float]]] = {}
    variants = {"with evaluation": PROTOCOL, "without evaluation": ["--noevaluate"]}
    common.say("one run first, not counted")
    run_once([*arguments.train_flags, "--max_steps=100", *PROTOCOL])
    for _ in range(arguments.rounds):
        for name, variant in variants.items():
            training = [*arguments.train_flags, f"--max_steps={arguments.max_steps}", *variant]
            runs.setdefault(name, []).append(run_once(training))
            common.say(f"{name}: {sum(runs[name][-1].values()):.1f} s")
    results = {name: summarise(seconds, arguments.max_steps) for name, seconds in runs.items()}
    path = common.write("end_to_end", arguments, start, {"variants": results})
    common.say(table(common.read(path)))


def run_once(flags: Sequence[str]) -> dict[str, float]:
    """Returns the seconds of each phase of one run.

    Raises:
      RuntimeError: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        own = [f"--save_dir={folder}/run", "--wandb_mode=disabled"]
        command = [sys.executable, "-m", "benchmarks.timed_run", str(time.time()), str(result)]
        done = subprocess.run(
            [*command, *flags, *own], cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        measured = json.loads(result.read_text()) if result.is_file() else {"status": "nothing"}
        if measured["status"] != 0:
            raise RuntimeError(f"{' '.join(flags)} failed: {done.stderr.strip()[-500:]}")
        return {phase: measured["seconds"].get(phase, 0.0) for phase in PHASES}


def summarise(runs: list[dict[str, float]], max_steps: int) -> dict[str, Any]:
    """Returns the spread of each phase and of the whole, and the seconds of 1M updates."""
    phases = {phase: spread([run[phase] for run in runs]) for phase in PHASES}
    million = {
        phase: seconds["median"] * (1e6 / max_steps if phase in GROWING else 1.0)
        for phase, seconds in phases.items()
    }
    return {
        "phases": phases,
        "total": spread([sum(run.values()) for run in runs]),
        "million_seconds": million,
    }


def table(result: dict[str, Any]) -> str:
    """Returns the results as Markdown."""
    steps = int(result["flags"]["max_steps"])
    header = ["run", *PHASES, "total s", "1M updates, min", "evaluation's share"]
    rows = []
    for name, variant in result["results"]["variants"].items():
        million = variant["million_seconds"]
        total = sum(million.values())
        rows.append(
            [
                f"{name}, {steps:,} updates",
                *(f"{variant['phases'][phase]['median']:.1f}" for phase in PHASES),
                common.with_range(variant["total"], "{:.1f}".format),
                f"{total / 60:.1f}",
                f"{million['evaluate'] / total:.0%}",
            ]
        )
    return common.markdown(header, rows)


if __name__ == "__main__":
    main()
