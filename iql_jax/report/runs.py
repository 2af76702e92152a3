"""Reading run directories, finished or not."""

import csv
import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from iql_jax.errors import InputError
from iql_jax.report.files import whole_lines
from iql_jax.report.loggers import EVALUATIONS, HISTOGRAMS, METRICS


@dataclasses.dataclass(frozen=True)
class Series:
    """Values by update and member.

    Attributes:
      updates: i64[U], gradient updates, increasing.
      values: f64[U, P]; NaN where a member has none.
    """

    updates: np.ndarray
    values: np.ndarray


@dataclasses.dataclass(frozen=True)
class Run:
    """One run directory.

    Attributes:
      path: the directory.
      config: the resolved configuration.
      flags: the flags.
      record: `record.json`.
      results: `results.json`; None for a run that has not finished.
      evaluations: rows of `evaluations.csv`, numbers as float, unknown ones NaN.
    """

    path: Path
    config: Mapping[str, Any]
    flags: Mapping[str, Any]
    record: Mapping[str, Any]
    results: Mapping[str, Any] | None
    evaluations: Sequence[Mapping[str, float]]

    @property
    def dataset(self) -> str:
        """The name of the dataset, with the prefix that tells its source."""
        name = self.record.get("dataset", {}).get("name")
        return str(name or self.config.get("env_name") or "unknown data")

    @property
    def seeds(self) -> list[int]:
        """The seeds of the members that were evaluated, in the order of the members."""
        by_member = {int(row["member"]): int(row["seed"]) for row in self.evaluations}
        return [by_member[member] for member in sorted(by_member)]

    @property
    def score_column(self) -> str:
        """`score`, or `return_mean` where no reference returns are known."""
        known = any(np.isfinite(row["score"]) for row in self.evaluations)
        return "score" if known else "return_mean"

    @property
    def score_label(self) -> str:
        """What `score_column` is, for axes and tables."""
        if self.score_column == "return_mean":
            return "return"
        return str(self.record.get("score_meaning") or "score")

    @property
    def online_from(self) -> int | None:
        """The last evaluated update before training went online; None if it never did."""
        online = [row["update"] for row in self.evaluations if row["env_steps"] > 0]
        if not online:
            return None
        before = [row["update"] for row in self.evaluations if row["update"] < min(online)]
        return int(max(before, default=0))

    def scores(self) -> Series:
        """Return the score (or the return) by update and member."""
        return pivot(self.evaluations, self.score_column)


def split(run: Run) -> list[Run]:
    """Return `run` as one run for each way in which its members differ, but for the seed.

    The points of a sweep become settings of the configuration. Tasks of one dataset become datasets
    of their own, as the record names them. A run whose members differ in nothing stays whole.
    """
    members = run.flags.get("members") or []
    overrides = [member.get("overrides") or {} for member in members]
    points = list({tuple(sorted(point.items())): point for point in overrides}.values())
    if len(points) < 2:
        return [run]
    return [_part(run, point, [point == other for other in overrides]) for point in points]


def _part(run: Run, point: Mapping[str, Any], belongs: Sequence[bool]) -> Run:
    """Return the members of `run` with the overrides `point`."""
    settings = {name: value for name, value in point.items() if name != "task"}
    record = run.record
    if "task" in point:
        task = record["dataset"]["tasks"][int(point["task"]) - 1]
        record = {**record, "dataset": {**record["dataset"], **task}}
    return dataclasses.replace(
        run,
        config={**run.config, **settings},
        record=record,
        evaluations=[row for row in run.evaluations if belongs[int(row["member"])]],
    )


def pivot(rows: Iterable[Mapping[str, Any]], name: str) -> Series:
    """Return `name` of `rows` by update and member."""
    rows = [row for row in rows if row.get(name) is not None]
    updates = sorted({int(row["update"]) for row in rows})
    members = sorted({int(row["member"]) for row in rows})
    values = np.full((len(updates), len(members)), np.nan)
    row_of = {update: index for index, update in enumerate(updates)}
    column_of = {member: index for index, member in enumerate(members)}
    for row in rows:
        values[row_of[int(row["update"])], column_of[int(row["member"])]] = row[name]
    return Series(np.array(updates, np.int64), values)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read '{path}': {error}; restore or remove that file") from error


def _read_rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    rows = []
    for number, line in enumerate(whole_lines(path), 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise InputError(
                f"'{path}' line {number} is not JSON ({error}); remove that line"
            ) from error
    return rows


def read_metrics(run_dir: str | Path) -> list[dict[str, Any]]:
    """Return the rows of `metrics.jsonl`; a line still being written is left out.

    Raises:
      InputError: naming the file and the line that cannot be read.
    """
    return _read_rows(Path(run_dir) / METRICS)


def read_histograms(run_dir: str | Path) -> list[dict[str, Any]]:
    """Return the rows of `histograms.jsonl`; a line still being written is left out.

    Raises:
      InputError: naming the file and the line that cannot be read.
    """
    return _read_rows(Path(run_dir) / HISTOGRAMS)


def read_evaluations(run_dir: str | Path) -> list[dict[str, float]]:
    """Return the rows of `evaluations.csv` as floats, NaN where a field is empty.

    Raises:
      InputError: naming the file and the line that cannot be read.
    """
    path = Path(run_dir) / EVALUATIONS
    if not path.is_file():
        return []
    rows = []
    for number, fields in enumerate(csv.DictReader(whole_lines(path)), 2):
        try:
            rows.append({name: float(text) if text else np.nan for name, text in fields.items()})
        except (TypeError, ValueError) as error:
            raise InputError(f"'{path}' line {number} is damaged ({error}); remove it") from error
    return rows


def load_run(run_dir: str | Path) -> Run:
    """Return the run in `run_dir`, which may still be going on.

    Raises:
      InputError: if the directory is missing or holds no run, or a file of it cannot be read.
    """
    path = Path(run_dir)
    if not path.is_dir():
        raise InputError(f"no directory '{path}'; name a run directory, the --save_dir of a run")
    if not (path / "config.json").is_file():
        raise InputError(
            f"'{path}' is not a run directory: it has no config.json; name the --save_dir of a run"
        )
    config = _read_json(path / "config.json")
    record = path / "record.json"
    results = path / "results.json"
    return Run(
        path=path,
        config=config.get("config", {}),
        flags=config.get("flags", {}),
        record=_read_json(record) if record.is_file() else {},
        results=_read_json(results) if results.is_file() else None,
        evaluations=read_evaluations(path),
    )


def find_runs(paths: Sequence[str | Path]) -> list[Run]:
    """Return the runs in `paths`, each a run directory or a directory that has some below it.

    Raises:
      InputError: if a path is missing or holds no run.
    """
    found: dict[Path, Run] = {}
    for path in map(Path, paths):
        below = sorted(file.parent for file in path.rglob("config.json")) if path.is_dir() else []
        if (path / "config.json").is_file() or not below:
            below = [path]
        for run_dir in below:
            found.setdefault(run_dir.resolve(), load_run(run_dir))
    return list(found.values())


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings under dotted names."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            leaves |= flatten(value, f"{prefix}{name}.")
        else:
            leaves[prefix + name] = value
    return leaves
