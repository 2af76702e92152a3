"""What a run was: configuration, versions, hardware, data; written so that others can repeat it.

A run directory holds, readable with pandas (`read_json`, `read_json(lines=True)`, `read_csv`):

- `config.json`: `{"config": {...}, "flags": {...}}`, both as they were after all overrides.
- `record.json`: versions, commit, devices, precision, dataset with fingerprint, transforms,
  command line, start; one entry under `resumes` for every time the run was continued.
- `metrics.jsonl`, `evaluations.csv`, `histograms.jsonl`: see `loggers.py`.
- `maze.npz`: the last picture of a maze, see `maze.py`.
- `results.json`: the summary, see `summary.py`.
"""

import dataclasses
import datetime
import importlib.metadata
import json
import math
import os
import platform
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from iql_jax.report.files import write_atomic

_PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "mujoco",
    "gymnasium",
    "gymnasium-robotics",
)
_REPOSITORY = Path(__file__).resolve().parents[2]


def to_json(value: Any) -> Any:
    """Return `value` as what strict JSON can hold.

    Dataclasses and mappings become objects, arrays and tuples lists, paths text, and numbers that
    are not finite null, for JSON has no NaN.

    Raises:
      TypeError: for anything else, so that nothing is written as an unreadable `repr`.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {
            field.name: getattr(value, field.name) for field in dataclasses.fields(value)
        }  # not `asdict`, which copies arrays
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(item) for item in value]
    if isinstance(value, np.ndarray | np.generic) or hasattr(value, "__array__"):
        return to_json(np.asarray(value).tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if value is None or isinstance(value, str | int):
        return value
    raise TypeError(f"cannot write {type(value).__name__} {value!r} as JSON")


def write_json(path: Path, value: Any) -> None:
    """Replace `path` atomically by `value` as indented strict JSON.

    Raises:
      InputError: if it cannot be written.
    """
    write_atomic(path, json.dumps(to_json(value), indent=2, allow_nan=False) + "\n")


def write_config(run_dir: str | Path, config: Mapping[str, Any], flags: Mapping[str, Any]) -> None:
    """Write `config.json`: the configuration and the flags of the run, after all overrides."""
    write_json(Path(run_dir) / "config.json", {"config": config, "flags": flags})


def write_record(
    run_dir: str | Path, record: Mapping[str, Any], resumed_at: int | None = None
) -> None:
    """Write `record.json`, or, when the run was resumed, add to the one that is there.

    Args:
      run_dir: the run directory.
      record: what `collect_record` returned.
      resumed_at: the update at which a resumed run goes on; None for a new run. What differs from
        the first record (versions, devices, command, start) is kept under `resumes`.
    """
    path = Path(run_dir) / "record.json"
    record = to_json(record)
    if resumed_at is not None and path.is_file():
        first = json.loads(path.read_text())
        changed = {key: value for key, value in record.items() if first.get(key) != value}
        first.setdefault("resumes", []).append({"update": resumed_at, **changed})
        record = first
    write_json(path, record)


def collect_record(
    *,
    dataset: Mapping[str, Any],
    transforms: Mapping[str, Any] | None = None,
    env_name: str | None = None,
    score_meaning: str | None = None,
    matmul_precision: str | None = None,
    command: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Return what `record.json` holds, gathered from this process and machine.

    Args:
      dataset: `name`, `source`, `rows` and `fingerprint` of the dataset.
      transforms: transforms by field, as dataclasses or mappings.
      env_name: the environment that evaluates, if there is one.
      score_meaning: what the column `score` is, printed as its label, e.g. "normalised score" or
        "success rate (%)".
      matmul_precision: of matrix products, by the name of the configuration; what JAX is set to
        by default.
      command: the command line; that of this process by default.
    """
    import jax

    devices = jax.devices()
    return {
        "start_time_utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.orig_argv if command is None else command),
        "dataset": to_json(dataset),
        "transforms": to_json(transforms or {}),
        "env_name": env_name,
        "score_meaning": score_meaning,
        "versions": package_versions(),
        "git": git_state(_REPOSITORY),
        "platform": platform.platform(),
        "device_platform": devices[0].platform,
        "device_kind": devices[0].device_kind,
        "device_count": len(devices),
        "cpu_model": cpu_model(),
        "cpu_cores": cpu_cores(),
        "matmul_precision": matmul_precision
        or getattr(jax.config, "jax_default_matmul_precision", None)
        or "default",
    }


def package_versions() -> dict[str, str | None]:
    """Return the versions of Python, this package and those that shape numbers; None if absent."""
    versions: dict[str, str | None] = {
        "python": platform.python_version(),
        "iql_jax": _own_version(),
    }
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def _own_version() -> str | None:
    try:
        return importlib.metadata.version("iql_jax")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout, not installed
        metadata = _REPOSITORY / "pyproject.toml"
        if not metadata.is_file():
            return None
        return tomllib.loads(metadata.read_text())["project"]["version"]


def git_state(repository: Path) -> dict[str, Any] | None:
    """Return the commit of the checkout at `repository` and whether its code differs from it.

    Results files of benchmarks do not count, or one benchmark would mark the next as modified. None
    where `repository` is no checkout, has no commit, or git is missing or refuses: a record is
    never worth stopping a run.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", os.fspath(repository), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        # An installed package may lie inside some other project's checkout: that is not its commit.
        if Path(git("rev-parse", "--show-toplevel")).resolve() != repository.resolve():
            return None
        commit = git("rev-parse", "HEAD")
        code = ("--", ".", ":(exclude)benchmarks/results")
        return {"commit": commit, "modified": bool(git("status", "--porcelain", "-uno", *code))}
    except (OSError, subprocess.SubprocessError):
        return None


def cpu_model() -> str:
    """Return the processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def cpu_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS


def hardware_line(record: Mapping[str, Any]) -> str:
    """Return the devices of `record` in words, for tables and titles."""
    cores = record.get("cpu_cores")
    cpu = f"{record.get('cpu_model', 'unknown CPU')}, {cores} core{'' if cores == 1 else 's'}"
    if record.get("device_platform", "cpu") == "cpu":
        return cpu
    return f"{record.get('device_count', 1)} x {record.get('device_kind')} ({cpu})"
