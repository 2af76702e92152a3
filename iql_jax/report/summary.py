"""The numbers a run ends with: `results.json` and the table printed from it."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from iql_jax.errors import InputError
from iql_jax.report import records, runs, statistics


def summarise(
    run_dir: str | Path,
    wall_seconds: float | None = None,
    evaluation_seconds: float | None = None,
    finished: bool = False,
) -> dict[str, Any]:
    """Return the summary of a run, the content of `results.json`.

    The best score is that of the update whose mean over members is highest: one policy per member
    chosen at one moment, not each member's own best.

    Args:
      run_dir: the run directory.
      wall_seconds: how long the run took in all, over all resumes; None if unknown.
      evaluation_seconds: how much of that was evaluation; summed over the evaluations on file by
        default.
      finished: whether the run reached its last update.

    Raises:
      InputError: if it is no run directory or a file of it is damaged.
    """
    run = runs.load_run(run_dir)
    metrics = runs.read_metrics(run_dir)
    scores = run.scores()
    if evaluation_seconds is None:
        seconds = runs.pivot(run.evaluations, "wall_seconds").values
        evaluation_seconds = float(np.nansum(seconds.max(axis=1))) if seconds.size else 0.0
    last_rows = [*metrics[-1:], *run.evaluations[-1:]]
    return {
        "dataset": run.record.get("dataset", {}),
        "env_name": run.record.get("env_name"),
        "finished": finished,
        "updates": max((int(row["update"]) for row in last_rows), default=0),
        "seeds": run.seeds,
        "score_column": run.score_column,
        "score_label": run.score_label,
        "last": _score_at(run, scores, -1),
        "best": _score_at(run, scores, best_index(scores)),
        "parts": _parts(run),
        "wall_seconds": wall_seconds,
        "evaluation_seconds": evaluation_seconds,
        "hardware": records.hardware_line(run.record),
        "matmul_precision": run.record.get("matmul_precision"),
    }


def _parts(run: runs.Run) -> list[dict[str, Any]]:
    """Return the scores of each point of a sweep, or task, of a run's members; [] for one."""
    parts = [part for part in runs.split(run) if part.evaluations]
    if len(parts) < 2:
        return []
    found = []
    for part in parts:
        scores, member = part.scores(), int(part.evaluations[0]["member"])
        found.append(
            {
                "overrides": run.flags["members"][member]["overrides"],
                "last": _score_at(part, scores, -1),
                "best": _score_at(part, scores, best_index(scores)),
            }
        )
    return found


def best_index(scores: runs.Series) -> int:
    """Return the index of the update whose mean over members is highest, the first of equals."""
    means = member_mean(scores.values)
    return int(np.nanargmax(means)) if np.isfinite(means).any() else -1


def member_mean(values: np.ndarray) -> np.ndarray:
    """Return f64[U], the mean of `values` f64[U, P] over members that are there; NaN if none is."""
    finite = np.isfinite(values)
    count = finite.sum(axis=-1)
    total = np.where(finite, values, 0.0).sum(axis=-1)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _score_at(run: runs.Run, scores: runs.Series, index: int) -> dict[str, Any] | None:
    if not len(scores.updates):
        return None
    values = scores.values[index]
    low, high = statistics.bootstrap_interval(values)
    update = int(scores.updates[index])
    rows = [row for row in run.evaluations if row["update"] == update]

    def mean_of(name: str) -> float | None:
        found = np.array([row[name] for row in rows])
        return float(found[np.isfinite(found)].mean()) if np.isfinite(found).any() else None

    return {
        "update": update,
        "mean": float(member_mean(values[None])[0]),
        "low": low,
        "high": high,
        "members": values.tolist(),
        "episodes": mean_of("episodes"),
        "return_mean": mean_of("return_mean"),
        "success_rate": mean_of("success_rate"),
        "length_mean": mean_of("length_mean"),
    }


def write_results(run_dir: str | Path, results: Mapping[str, Any]) -> None:
    """Write `results.json`.

    Raises:
      InputError: if it cannot be written.
    """
    records.write_json(Path(run_dir) / "results.json", results)


def duration(seconds: float | None) -> str:
    """Return `seconds` as h:mm:ss, "-" if unknown."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def number(value: float | None, digits: int = 1) -> str:
    """Return `value` with that many decimals, "-" if unknown."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def interval(low: float | None, high: float | None) -> str:
    """Return "[low, high]", "-" where there is none."""
    ends = number(low), number(high)
    return "-" if "-" in ends else f"[{ends[0]}, {ends[1]}]"


def format_summary(results: Mapping[str, Any]) -> str:
    """Return the table printed at the end of a run, aligned text of a few lines."""
    last = results["last"]
    data = results["dataset"]
    lines = [f"{data.get('name', 'unknown data')}: {results['updates']:,} updates"]
    if last is None:
        lines.append("no evaluation was made")
    else:
        rows = [("", "mean", "95% interval", "members", "update", "success", "episode length")]
        rows += [
            (
                which,
                number(score["mean"]),
                interval(score["low"], score["high"]),
                str(sum(value is not None and np.isfinite(value) for value in score["members"])),
                f"{score['update']:,}",
                "-" if score["success_rate"] is None else f"{score['success_rate']:.0%}",
                number(score["length_mean"], 0),
            )
            for which, score in _labelled(results)
        ]
        lines += align(rows)
        each = last["episodes"]
        lines.append(
            f"episodes    {number(each, 0)} per member and evaluation; interval: bootstrap over "
            "members"
        )
    wall, evaluating = results["wall_seconds"], results["evaluation_seconds"]
    without = None if wall is None else wall - evaluating
    lines += [
        f"wall time   {duration(wall)} with evaluation, {duration(without)} without",
        f"data        {_data_line(data)}",
        f"hardware    {results['hardware']}",
    ]
    return "\n".join(lines)


def _labelled(results: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return (what it is, score) for each line of the table, parts last."""
    label = results["score_label"]
    lines = [(f"{which} {label}", results[which]) for which in ("last", "best")]
    for part in results.get("parts", []):
        point = ", ".join(f"{name}={value}" for name, value in part["overrides"].items())
        lines.append((f"last, {point}", part["last"]))
    return lines


def _data_line(data: Mapping[str, Any]) -> str:
    rows = data.get("rows")
    parts = [str(data.get("source", "unknown source"))]
    if rows is not None:
        parts.append(f"{rows:,} rows")
    if data.get("fingerprint"):
        parts.append(f"fingerprint {data['fingerprint']}")
    return ", ".join(parts)


def align(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> list[str]:
    """Return `rows` as lines with columns as wide as they need, those of `left` to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def load_results(run_dir: str | Path) -> dict[str, Any]:
    """Return the summary of a run computed from its files, with the times noted at its end.

    Raises:
      InputError: if it is no run directory, or no evaluation was made yet.
    """
    noted = runs.load_run(run_dir).results or {}
    results = summarise(run_dir)
    if results["last"] is None:
        raise no_evaluations(run_dir)
    if noted.get("updates") == results["updates"]:  # else the run went on after it had finished
        results |= {
            key: noted[key]
            for key in ("wall_seconds", "evaluation_seconds", "finished")
            if key in noted
        }
    return results


def no_evaluations(run_dir: str | Path) -> InputError:
    """Return the error for a run in which nothing was evaluated yet."""
    return InputError(
        f"'{run_dir}' has no evaluations yet; wait for the first, or train with --eval_interval "
        "above 0"
    )
