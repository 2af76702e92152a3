"""The results book: what was run, on which data, and how to repeat it and every published table."""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from iql_jax.envs.ogbench_env import DATASETS, PREFIX
from iql_jax.report import published, tables
from iql_jax.report.groups import group_runs
from iql_jax.report.runs import Run
from iql_jax.report.summary import duration

# What the prefixes of dataset names stand for, in the book's order.
_FAMILIES = {
    "d4rl": "D4RL's own data",
    "generated": "Data generated on the machine of the run: not comparable with published scores",
    "ogbench": "OGBench",
    "minari": "Minari: not D4RL's data, whatever the names say",
    "auctionnet": "AuctionNet: the return is its score",
    "file": "Other files",
}
# The config of a recipe by phase and the first word of a D4RL name; others are not reproduced.
_CONFIGS = {
    ("IQL paper", "offline"): {
        "hopper": "locomotion",
        "halfcheetah": "locomotion",
        "walker2d": "locomotion",
        "antmaze": "antmaze",
        "kitchen": "kitchen",
        "pen": "adroit",
        "hammer": "adroit",
        "door": "adroit",
        "relocate": "adroit",
    },
    ("IQL paper", "finetune"): {"antmaze": "antmaze_finetune"},
    ("IDQL paper", "offline"): {
        "hopper": "idql_mujoco",
        "halfcheetah": "idql_mujoco",
        "walker2d": "idql_mujoco",
        "antmaze": "idql_antmaze",
    },
}
_SCRIPTS = {"offline": "train_offline.py", "finetune": "train_finetune.py"}
_OGBENCH_TITLE = "OGBench's single-task sets, the five tasks of each at once"
# Flags that say where a run was kept, not what it was.
_LOCAL_FLAGS = ("--save_dir", "--wandb_mode", "--wandb_project", "--resume")


def results_book(runs: Sequence[Run]) -> str:
    """Return the book as Markdown: tables of `runs` by kind of data, then published tables.

    Folders of the machine are left out: a file is called by its own name.

    Raises:
      InputError: a run has no evaluation, or runs of one method do not measure the same thing.
    """
    parts = [
        "# Results",
        "Made by `python -m iql_jax.report book DIR...` from the runs' own records; not edited. "
        "A score is the mean over all members of all runs of a method, its interval a 95% "
        "bootstrap over them.",
    ]
    for family, title in _FAMILIES.items():
        chosen = [run for run in runs if _family(run) == family]
        if chosen:
            parts += [f"## {title}", *_section(chosen)]
    parts += ["## Published tables", *_published_tables()]
    return _without_folders("\n\n".join(parts)) + "\n"


def _family(run: Run) -> str:
    prefix = run.dataset.partition("/")[0]
    return prefix if prefix in _FAMILIES else "file"


def _section(runs: Sequence[Run]) -> list[str]:
    table = tables.results_table(group_runs(runs), "markdown")
    return [table, "Runs:\n\n" + "\n".join(map(_line, runs))]


def _line(run: Run) -> str:
    record, results = run.record, run.results or {}
    facts = [_hardware(record)]
    if results.get("wall_seconds") is not None:
        facts.append(f"{duration(results['wall_seconds'])} with evaluation")
    facts += _commits(record)
    facts.append(f"data fingerprint {record.get('dataset', {}).get('fingerprint', 'unknown')}")
    return f"- `{_command(_sessions(record)[-1])}`: {', '.join(facts)}"


def _sessions(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the record as it was for each session: `resumes` has what differed from the first."""
    return [record, *({**record, **resumed} for resumed in record.get("resumes", []))]


def _commits(record: Mapping[str, Any]) -> list[str]:
    """Return the commits a run was made with, each but the first with where it came in."""
    commits, last = [], None
    for session in _sessions(record):
        git = session.get("git")
        if git and git != last:
            changes = " and changes" if git["modified"] else ""
            since = f" from update {session['update']:,} on" if last else ""
            commits.append(f"commit {git['commit'][:12]}{changes}{since}")
            last = git
    return commits


def _hardware(record: Mapping[str, Any]) -> str:
    if record.get("device_platform", "cpu") != "cpu":
        return f"{record.get('device_count')} x {record.get('device_kind')}"
    return f"{record.get('cpu_model', 'unknown processor')}, {record.get('cpu_cores', '?')} cores"


def _command(record: Mapping[str, Any]) -> str:
    """Return the command of a run without what is of its machine alone."""
    words = shlex.split(str(record.get("command", "unknown command")))
    if words and words[0].rsplit("/", 1)[-1].startswith("python"):
        words[0] = "python"
    kept, skip = [], False
    for word in words:
        if skip:
            skip = False
            continue
        if word in _LOCAL_FLAGS:
            skip = word != "--resume"
            continue
        if not word.startswith(tuple(f"{flag}=" for flag in _LOCAL_FLAGS)):
            kept.append(word)
    return " ".join(kept)


def _published_tables() -> list[str]:
    """Return the tables of the papers that are reproduced, each number with its command."""
    parts = [
        "Each line needs D4RL's file, which is downloaded or looked for in `$D4RL_DATASET_DIR`. "
        "A * is a number taken second-hand, not compared with the publication. CORL's numbers, "
        "of other settings, stand beside ours in the tables above where there are runs. "
        "`python -m iql_jax.report commands` prints these commands alone."
    ]
    for entry in _reproduced():
        rows = [("data", "published", "command")]
        for name, score in entry["scores"].items():
            shown = " to ".join(map(str, score)) if isinstance(score, list) else str(score)
            star = "*" if name in entry["unchecked"] else ""
            rows.append((name, shown + star, f"`{_command_for(entry, name)}`"))
        parts += [f"{_title(entry)} ({entry['source']})", tables.render(rows, "markdown")]
    parts.append(f"{_OGBENCH_TITLE}: `{_ogbench_command('antmaze-large-navigate')}`")
    return parts


def published_commands() -> str:
    """Return the commands for every published table that is reproduced, as a shell script."""
    lines = []
    for entry in _reproduced():
        lines += ["", f"# {_title(entry)}"]
        lines += [_command_for(entry, name) for name in entry["scores"]]
    lines += ["", f"# {_OGBENCH_TITLE}", *map(_ogbench_command, DATASETS)]
    return "\n".join(lines[1:])


def _reproduced() -> list[dict[str, Any]]:
    """Return the published tables whose recipes are in configs/."""
    return [entry for entry in published.entries() if (entry["recipe"], entry["phase"]) in _CONFIGS]


def _title(entry: Mapping[str, Any]) -> str:
    phase = ", finetuning" if entry["phase"] == "finetune" else ""
    return f"{entry['recipe']}{phase}: {entry['protocol']}"


def _command_for(entry: Mapping[str, Any], name: str) -> str:
    config = _CONFIGS[entry["recipe"], entry["phase"]][name.split("-")[0]]
    return (
        f"python {_SCRIPTS[entry['phase']]} --config=configs/{config}.py "
        f"--env_name={name} --num_seeds=10"
    )


def _ogbench_command(dataset: str) -> str:
    return (
        "python train_offline.py --config=configs/ogbench.py --max_steps=1000000 --num_seeds=8 "
        f"--env_name={PREFIX}{dataset}-singletask-all-v0"
    )


def _without_folders(text: str) -> str:
    """Return `text` with absolute paths shortened to the names of their files."""
    text = re.sub(r"\b(file|auctionnet)//(?:[^\s/|`@]+/)+", r"\1/", text)
    return re.sub(r"(?<![\w:/.*`-])/(?:[^\s/|`]+/)+", "", text)
