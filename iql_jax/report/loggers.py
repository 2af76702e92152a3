"""The run's log: files always, Weights & Biases and TensorBoard beside them, behind one object.

Files, one row for every (update, member), updates being gradient updates:

- `metrics.jsonl`: `{"update", "env_steps" (online only), "member", "seed", "training/...",
  "timing/...", ...}`. JSON has no NaN: a value that is not finite is null, and the row says which
  one it was under `nonfinite`, e.g. `{"training/q_loss": "nan"}`. float32 values are written with
  the digits that give the same float32 back.
- `evaluations.csv`: `EVALUATION_COLUMNS`. `score` is the normalised score x 100, or the success
  rate x 100 where no reference returns are known (`score_meaning` of `record.json` says which);
  a field is empty where it is unknown; `wall_seconds` is how long that evaluation took, all
  members and episodes together.
- `histograms.jsonl`: `{"update", ..., "name", "counts": [64], "edges": [65]}`.

Each call returns when its rows are on the disk. After a kill, `open_run(..., resume_at=update)`
drops a torn last line and everything after the checkpoint's update, which the resumed run writes
again: no row is lost, torn or double.
"""

import csv
import fcntl
import io
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from iql_jax.errors import InputError
from iql_jax.report.files import AppendFile, keep_lines, whole_lines, write_failure

EVALUATION_COLUMNS = (
    "update",
    "env_steps",
    "member",
    "seed",
    "episodes",
    "return_mean",
    "return_std",
    "score",
    "success_rate",
    "length_mean",
    "wall_seconds",
)
EVALUATION_VALUES = EVALUATION_COLUMNS[4:]
METRICS, EVALUATIONS, HISTOGRAMS = "metrics.jsonl", "evaluations.csv", "histograms.jsonl"
HISTOGRAM_BINS = 64

Row = dict[str, Any]


class Sink(Protocol):
    """Where rows go. A row has `update`, `member`, `seed`, online `env_steps`, and values."""

    def metrics(self, rows: Sequence[Row]) -> None:
        """Take rows with values under names such as `training/q_loss`."""

    def evaluation(self, rows: Sequence[Row]) -> None:
        """Take rows with values under `EVALUATION_VALUES`; NaN or None where unknown."""

    def histograms(self, rows: Sequence[Row]) -> None:
        """Take rows with `name`, `counts` and `edges`."""

    def media(self, update: int, name: str, path: Path, member: int | None) -> None:
        """Take a picture (.png) or video (.mp4, .gif) of one member, or of all (None)."""

    def close(self, results: Mapping[str, Any] | None, failed: bool) -> None:
        """Finish with the final summary of the run, if it was reached."""


def _json_line(row: Row) -> str:
    odd = {
        key: str(value)
        for key, value in row.items()
        if isinstance(value, float) and not math.isfinite(value)
    }
    if odd:
        row = {**row, **dict.fromkeys(odd), "nonfinite": odd}
    return json.dumps(row, allow_nan=False) + "\n"


def _csv_line(values: Sequence[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


class FileSink:
    """Rows in the files of the run directory."""

    def __init__(self, run_dir: Path) -> None:
        self._metrics = AppendFile(run_dir / METRICS)
        self._evaluations = AppendFile(run_dir / EVALUATIONS, _csv_line(EVALUATION_COLUMNS))
        self._histograms = AppendFile(run_dir / HISTOGRAMS)

    def metrics(self, rows: Sequence[Row]) -> None:
        """Append to `metrics.jsonl`."""
        self._metrics.append("".join(map(_json_line, rows)))

    def evaluation(self, rows: Sequence[Row]) -> None:
        """Append to `evaluations.csv`."""
        lines = [_csv_line([row.get(column) for column in EVALUATION_COLUMNS]) for row in rows]
        self._evaluations.append("".join(lines))

    def histograms(self, rows: Sequence[Row]) -> None:
        """Append to `histograms.jsonl`."""
        self._histograms.append("".join(map(_json_line, rows)))

    def media(self, update: int, name: str, path: Path, member: int | None) -> None:
        """Do nothing: the file itself is the record."""

    def close(self, results: Mapping[str, Any] | None, failed: bool) -> None:
        """Close the files."""
        for file in (self._metrics, self._evaluations, self._histograms):
            file.close()


class Guarded:
    """A sink that may fail: the first failure is told once, then training goes on without it."""

    def __init__(self, name: str, sink: Sink, say: Callable[[str], None]) -> None:
        self._name, self._sink, self._say = name, sink, say
        self.active = True

    def call(self, method: str, *arguments: Any) -> None:
        """Call `method` of the sink, unless it has failed before."""
        if not self.active:
            return
        try:
            getattr(self._sink, method)(*arguments)
        except Exception as error:
            self.active = False
            reason = " ".join(str(error).split()) or type(error).__name__
            self._say(
                f"warning: {self._name} failed and is off for the rest of this run ({reason}); "
                "training goes on, and the files of the run directory have everything"
            )


class RunLog:
    """What the training program logs to; made by `open_run`."""

    def __init__(
        self, run_dir: Path, seeds: Sequence[int], lock: io.IOBase, dashboards: Sequence[Guarded]
    ) -> None:
        self.run_dir, self.seeds = run_dir, list(seeds)
        self._lock = lock
        self._files = FileSink(run_dir)
        self._dashboards = list(dashboards)
        self._last = {
            "metrics": _last_update(run_dir / METRICS),
            "evaluation": _last_update(run_dir / EVALUATIONS),
        }

    @property
    def last_evaluation(self) -> int | None:
        """The update of the last evaluation on file, which a resumed run must not log again."""
        return self._last["evaluation"]

    def log_metrics(
        self,
        update: int,
        values: Mapping[str, Any],
        env_steps: int | None = None,
        members: Sequence[int] | None = None,
    ) -> None:
        """Log one row per member.

        Args:
          update: gradient updates done.
          values: by name, f32[P] or one number for all members.
          env_steps: environment steps done, when training online.
          members: the members the values are of, where some were dropped; all by default.

        Raises:
          InputError: if the files cannot be written.
        """
        self._send("metrics", self._rows(update, values, env_steps, members))

    def log_evaluation(
        self,
        update: int,
        values: Mapping[str, Any],
        env_steps: int | None = None,
        members: Sequence[int] | None = None,
    ) -> None:
        """Log one evaluation of every member.

        Args:
          update: gradient updates done.
          values: by name of `EVALUATION_VALUES`, f32[P] or one number; None or absent if unknown.
          env_steps: environment steps done, when training online.
          members: the members the values are of; all by default.

        Raises:
          InputError: if the files cannot be written.
        """
        unknown = set(values) - set(EVALUATION_VALUES)
        if unknown:
            raise ValueError(f"no evaluation columns {sorted(unknown)}; have {EVALUATION_VALUES}")
        self._send("evaluation", self._rows(update, values, env_steps, members))

    def log_histograms(
        self, update: int, samples: Mapping[str, Any], members: Sequence[int] | None = None
    ) -> None:
        """Log the distribution of `samples`, by name f32[P, N], e.g. "advantage" and "q".

        Raises:
          InputError: if the files cannot be written.
        """
        rows = []
        for name, values in samples.items():
            for row, sample in zip(self._rows(update, {}, None, members), values, strict=True):
                finite = np.asarray(sample, np.float64)
                finite = finite[np.isfinite(finite)]
                if finite.size:
                    counts, edges = np.histogram(finite, HISTOGRAM_BINS)
                    row |= {"name": name, "counts": counts.tolist(), "edges": edges.tolist()}
                    rows.append(row)
        self._send("histograms", rows)

    def log_media(self, update: int, name: str, path: Path, member: int | None = None) -> None:
        """Show the picture or video at `path` on the dashboards, of one member or of all."""
        for sink in self._dashboards:
            sink.call("media", update, name, Path(path), member)

    def close(self, results: Mapping[str, Any] | None = None, failed: bool = False) -> None:
        """Finish the log; `results` is the summary, `failed` says that the run did not end well."""
        for sink in self._dashboards:
            sink.call("close", results, failed)
        self._files.close(results, failed)
        self._lock.close()

    def _rows(
        self,
        update: int,
        values: Mapping[str, Any],
        env_steps: int | None,
        members: Sequence[int] | None,
    ) -> list[Row]:
        members = range(len(self.seeds)) if members is None else members
        rows: list[Row] = []
        for member in members:
            row: Row = {"update": int(update)}
            if env_steps is not None:
                row["env_steps"] = int(env_steps)
            rows.append(row | {"member": int(member), "seed": int(self.seeds[member])})
        for name, value in values.items():
            if value is None:
                continue
            array = np.asarray(value)
            if array.shape not in ((), (len(rows),)):
                raise ValueError(f"'{name}' has shape {array.shape} for {len(rows)} members")
            for row, number in zip(rows, np.broadcast_to(array, (len(rows),)), strict=True):
                row[name] = _plain(number)
        return rows

    def _send(self, method: str, rows: list[Row]) -> None:
        if method in self._last and rows:
            update, last = rows[0]["update"], self._last[method]
            # Metrics of one update may come in several rows: those of extra evaluations do.
            if last is not None and (update < last or (update == last and method != "metrics")):
                raise ValueError(f"{method} of update {update} after those of update {last}")
            self._last[method] = update
        getattr(self._files, method)(rows)  # first: these are the ones that must not be lost
        for sink in self._dashboards:
            sink.call(method, rows)


def _plain(number: np.generic) -> float | int | bool:
    """Return a Python number; a float32 becomes the shortest decimal that rounds back to it."""
    if isinstance(number, np.floating):
        return float(str(np.float32(number)) if number.itemsize <= 4 else number)
    return number.item()


def lock_run(run_dir: str | Path) -> io.IOBase:
    """Return a lock on `run_dir` that lasts until it is closed or this process ends, however.

    Raises:
      InputError: if another process holds it, or the directory cannot be written.
    """
    path = Path(run_dir) / "run.lock"
    try:
        lock = open(path, "wb")  # noqa: SIM115 - held open for as long as the run lasts
    except OSError as error:
        raise write_failure(path, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise InputError(
            f"another process is training into '{run_dir}'; wait for it, or choose another "
            "--save_dir"
        ) from None
    return lock


def _update_of(line: str) -> int | None:
    """Return the update of a line of any of the files, None if the line is unreadable."""
    if line.startswith("{"):
        try:
            return int(json.loads(line)["update"])
        except (ValueError, TypeError, KeyError):
            return None
    fields = line.rstrip("\n").split(",")
    if fields == list(EVALUATION_COLUMNS):
        return 0  # the header belongs to every prefix of the file
    whole = len(fields) == len(EVALUATION_COLUMNS) and fields[0].isdigit()
    return int(fields[0]) if whole else None


def _last_update(path: Path) -> int | None:
    lines = [line for line in whole_lines(path) if not line.startswith("update,")]
    return _update_of(lines[-1]) if lines else None


def _truncate(run_dir: Path, update: int, evaluated: int, say: Callable[[str], None]) -> None:
    """Drop torn lines and all rows after `update`, or `evaluated`, from the files of a run."""
    for name, last in ((METRICS, update), (EVALUATIONS, evaluated), (HISTOGRAMS, evaluated)):
        path = run_dir / name
        if not path.is_file():
            continue
        unreadable = sum(_update_of(line) is None for line in whole_lines(path))
        if unreadable:  # no kill does this; a failing disk does
            say(f"warning: dropped {unreadable} unreadable lines of '{path}'")

        def wanted(line: str, last: int = last) -> bool:
            found = _update_of(line)
            # Some evaluations add rows to the metrics.
            last = min(last, evaluated) if '"evaluation/' in line else last
            return found is not None and found <= last

        keep_lines(path, wanted)


def open_run(
    run_dir: str | Path,
    seeds: Sequence[int],
    resume_at: int | None = None,
    connect: Sequence[Callable[[], tuple[str, Sink] | None]] = (),
    say: Callable[[str], None] | None = None,
    lock: io.IOBase | None = None,
    evaluated_at: int | None = None,
) -> RunLog:
    """Return the log of a run, its files open and locked.

    Args:
      run_dir: an existing directory.
      seeds: the seed of every member.
      resume_at: None for a new run; else the update of the checkpoint that the run goes on from:
        rows after it are dropped, since they will be written again; -1 for a run that was killed
        before its first checkpoint.
      connect: functions that return the name and the sink of a dashboard, or None if it is off,
        e.g. `wandb_logger.connector(...)`, `tensorboard_logger.connector(...)`.
      say: prints one line; to standard error by default.
      lock: what `lock_run` returned, if the caller holds the directory already.
      evaluated_at: the update of the last evaluation that the checkpoint knows of, where that may
        be before `resume_at`; later evaluations and histograms are dropped.

    Raises:
      InputError: if the directory cannot be written, holds another run and `resume_at` is None, or
        is being written by another process.
    """
    run_dir = Path(run_dir)
    say = say or (lambda text: print(text, file=sys.stderr))
    lock = lock or lock_run(run_dir)
    try:
        if resume_at is not None:
            _truncate(run_dir, resume_at, resume_at if evaluated_at is None else evaluated_at, say)
        elif any((run_dir / name).exists() for name in (METRICS, EVALUATIONS)):
            raise InputError(
                f"'{run_dir}' already holds a run; continue it with --resume or choose another "
                "--save_dir"
            )
        sinks = [made for made in (start() for start in connect) if made]
        return RunLog(run_dir, seeds, lock, [Guarded(name, sink, say) for name, sink in sinks])
    except BaseException:
        lock.close()
        raise
