"""Tables of results and comparisons of methods, as text, Markdown, CSV or LaTeX."""

import csv
import io
import itertools
from collections.abc import Sequence

import numpy as np

from iql_jax.errors import InputError
from iql_jax.report import published, statistics
from iql_jax.report.groups import Group
from iql_jax.report.summary import align, interval, number

FORMATS = ("text", "markdown", "csv", "latex")
_UNCHECKED = "*"
BEHAVIOUR = "(the data itself)"
_WORDS = ("data", "method", "measure", "published", "first > second", "command")

Rows = list[tuple[str, ...]]


def results_table(groups: Sequence[Group], style: str = "text", with_published: bool = True) -> str:
    """Return one line per method and dataset: last and best score with 95% bootstrap intervals.

    Published scores stand beside ours where the data is D4RL's own, their recipes and sources in
    notes below (in a CSV, in a column). A score is over all members of all runs of the group. The
    first line of a dataset is what its own episodes score, where that is known.

    Args:
      groups: what to show.
      style: one of `FORMATS`.
      with_published: whether to show published scores.
    """
    groups = sorted(groups, key=lambda group: group.dataset)  # stable: methods stay in order
    theirs = [
        published.lookup(group.dataset, "finetune" if group.online else "offline")
        if with_published
        else []
        for group in groups
    ]
    header = ["data", "method", "measure", "members", "episodes", "update", "last", "95% interval"]
    header += ["best", "95% interval", "best update"]
    rows: Rows = []
    last_column = ["-"] if any(theirs) else []
    known: set[str] = set()  # datasets whose own episodes have a line
    for group, others in zip(groups, theirs, strict=True):
        if group.behaviour is not None and group.dataset not in known:
            known.add(group.dataset)
            rows.append(
                (*_behaviour_row(group.dataset, group.label, group.behaviour), *last_column)
            )
        row = _result_row(group)
        if any(theirs):
            row.append("; ".join(map(_published_cell, others)) or "-")
        rows.append(tuple(row))
    if any(theirs):
        header.append("published")
    notes = [
        "data: " + "; ".join(f"{name}: {source}" for name, source in _sources(groups).items()),
        *([f"{BEHAVIOUR}: its episodes may have other starts and goals"] if known else []),
        *_published_notes([score for others in theirs for score in others]),
    ]
    return render([tuple(header), *rows], style, notes)


def _result_row(group: Group) -> list[str]:
    update, last = group.at("last")
    best_update, best = group.at("best")
    episodes = {int(row["episodes"]) for run in group.runs for row in run.evaluations[-1:]}
    return [
        group.dataset,
        group.method,
        group.label,
        str(len(last)),
        "/".join(map(str, sorted(episodes))),
        f"{update:,}",
        number(_mean(last)),
        interval(*statistics.bootstrap_interval(last)),
        number(_mean(best)),
        interval(*statistics.bootstrap_interval(best)),
        f"{best_update:,}",
    ]


def _behaviour_row(dataset: str, label: str, score: float) -> list[str]:
    return [dataset, BEHAVIOUR, label, *["-"] * 3, number(score), *["-"] * 4]


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None


def _sources(groups: Sequence[Group]) -> dict[str, str]:
    return {
        group.dataset: str(group.runs[0].record.get("dataset", {}).get("source", "unknown source"))
        for group in groups
    }


def _published_cell(score: published.Published) -> str:
    start = "" if score.start is None else f"{score.start:.1f} to "
    return f"{score.recipe} {start}{score.score:.1f}{'' if score.checked else _UNCHECKED}"


def _published_notes(scores: Sequence[published.Published]) -> list[str]:
    by_recipe: dict[str, list[str]] = {}
    for score in scores:
        protocols = by_recipe.setdefault(f"{score.recipe} ({score.source})", [])
        if score.protocol not in protocols:
            protocols.append(score.protocol)
    notes = [f"{recipe}: {'; '.join(protocols)}" for recipe, protocols in by_recipe.items()]
    if not all(score.checked for score in scores):
        notes.append(f"{_UNCHECKED} taken second-hand, not compared with the publication")
    return notes


def render(rows: Sequence[tuple[str, ...]], style: str, notes: Sequence[str] = ()) -> str:
    """Return `rows`, the header first, in one of `FORMATS`; a CSV has no place for `notes`.

    Columns of words are aligned to the left, columns of numbers to the right.

    Raises:
      InputError: if the format is unknown.
    """
    left = [index for index, name in enumerate(rows[0]) if name in _WORDS]
    if style == "text":
        return "\n".join([*align(rows, left), *notes])
    if style == "markdown":
        rule = ["---" if index in left else "---:" for index in range(len(rows[0]))]
        lines = ["| " + " | ".join(row) + " |" for row in [rows[0], rule, *rows[1:]]]
        escaped = [note.replace("*", r"\*") for note in notes]
        return "\n".join([*lines, *([""] if notes else []), *(f"- {note}" for note in escaped)])
    if style == "csv":
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(
            [[cell.replace(",", "") if _is_count(cell) else cell for cell in row] for row in rows]
        )
        return text.getvalue().rstrip("\n")
    if style == "latex":
        lines = [" & ".join(map(_latex, row)) + r" \\" for row in rows]
        columns = "".join("l" if index in left else "r" for index in range(len(rows[0])))
        return "\n".join(
            [
                rf"\begin{{tabular}}{{{columns}}}",
                r"\hline",
                lines[0],
                r"\hline",
                *lines[1:],
                r"\hline",
                r"\end{tabular}",
                *(f"% {note}" for note in notes),
            ]
        )
    raise InputError(f"table format '{style}' is not known; choose one of {', '.join(FORMATS)}")


def _is_count(cell: str) -> bool:
    return cell.replace(",", "").isdigit()


def _latex(text: str) -> str:
    for character in "&%$#_{}":
        text = text.replace(character, "\\" + character)
    return text


def comparison_table(groups: Sequence[Group], which: str = "last", style: str = "text") -> str:
    """Return methods compared over the datasets that all of them have.

    Per method the mean and interquartile mean over all runs, and for every pair the probability
    that the first does better than the second, each with a 95% interval from a bootstrap that
    resamples the members of every dataset apart.

    Args:
      groups: at least two methods.
      which: "last" or "best" score.
      style: one of `FORMATS`.

    Raises:
      InputError: if there are fewer than two methods, no common dataset, or several datasets
        with raw returns, whose mean means nothing.
    """
    methods = list(dict.fromkeys(group.method for group in groups))
    if len(methods) < 2:
        raise InputError(
            f"compare needs two methods or more and found one ({methods[0]}); give runs whose "
            "agent or settings differ, or name the setting with --by"
        )
    by_key = {(group.method, group.dataset): group for group in groups}
    datasets = list(dict.fromkeys(group.dataset for group in groups))
    shared = [data for data in datasets if all((method, data) in by_key for method in methods)]
    if not shared:
        raise InputError(
            f"no dataset was run with all of {', '.join(methods)}; compare methods on common data"
        )
    labels = {by_key[method, data].label for method in methods for data in shared}
    if len(shared) > 1 and "return" in labels:
        raise InputError(
            "returns of different datasets cannot be averaged; compare one dataset at a time"
        )
    scores = {method: [by_key[method, data].at(which)[1] for data in shared] for method in methods}
    empty = [method for method in methods if any(not task.size for task in scores[method])]
    if empty:
        raise InputError(f"'{empty[0]}' has no finite score on some dataset; leave that run out")
    measure = f"{which} {'/'.join(sorted(labels))}"
    notes = [f"{measure} on {', '.join(shared)}; 95% intervals: bootstrap over members"]
    if any(task.size < 2 for tasks in scores.values() for task in tasks):
        notes.append("- : no interval, a method has only one member on some data")
    left_out = [data for data in datasets if data not in shared]
    if left_out:
        notes.append(f"left out, not run with every method: {', '.join(left_out)}")
    parts = [render(_method_rows(scores), style), render(_pair_rows(scores), style, notes)]
    return "\n\n".join(parts)


def _method_rows(scores: dict[str, list[np.ndarray]]) -> Rows:
    header = ("method", "datasets", "runs", "mean", "95% interval")
    rows: Rows = [(*header, "interquartile mean", "95% interval")]
    for method, tasks in scores.items():
        cells = [method, str(len(tasks)), str(sum(task.size for task in tasks))]
        for statistic in (statistics.mean_over_tasks, statistics.iqm_over_tasks):
            cells.append(number(float(statistic(tasks))))
            cells.append(interval(*statistics.stratified_interval(tasks, statistic)))
        rows.append(tuple(cells))
    return rows


def _pair_rows(scores: dict[str, list[np.ndarray]]) -> Rows:
    rows: Rows = [("first > second", "probability", "95% interval")]
    for first, second in itertools.combinations(scores, 2):
        probability = statistics.probability_of_improvement(scores[first], scores[second])
        low, high = statistics.improvement_interval(scores[first], scores[second])
        shown = "-" if np.isnan(low) else f"[{low:.2f}, {high:.2f}]"
        rows.append((f"{first} > {second}", f"{probability:.2f}", shown))
    return rows
