"""Runs that belong together: the same method on the same data, all their members pooled."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from iql_jax.errors import InputError
from iql_jax.report.runs import Run, Series, flatten, split
from iql_jax.report.summary import best_index, no_evaluations

# What may differ between two runs of one method.
_NOT_THE_METHOD = frozenset(
    [
        "agent",
        "env_name",
        "dataset",
        "seed",
        "num_seeds",
        "eval_episodes",
        "eval_interval",
        "log_interval",
    ]
)


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs of one method on one dataset.

    Attributes:
      method: its label.
      dataset: the dataset's name, with the prefix that tells its source.
      runs: the runs, at least one.
      scores: score by update and member of all runs, at the updates that all of them evaluated.
    """

    method: str
    dataset: str
    runs: Sequence[Run]
    scores: Series

    @property
    def label(self) -> str:
        """What the scores are."""
        return self.runs[0].score_label

    @property
    def online(self) -> bool:
        """Whether the scores end with training online."""
        return any(run.online_from is not None for run in self.runs)

    @property
    def behaviour(self) -> float | None:
        """What the data's own episodes score, None where that is not known."""
        facts = self.runs[0].record.get("dataset", {})
        return facts.get("behaviour_return" if self.label == "return" else "behaviour_score")

    def at(self, which: str) -> tuple[int, np.ndarray]:
        """Return (update, scores f64[P] that are there), `which` being "last" or "best".

        The best is at the update whose mean over members is highest.
        """
        index = -1 if which == "last" else best_index(self.scores)
        values = self.scores.values[index]
        return int(self.scores.updates[index]), values[np.isfinite(values)]


def group_runs(runs: Sequence[Run], by: str | None = None) -> list[Group]:
    """Return `runs` grouped by data and method, in the order of first appearance.

    Args:
      runs: the runs.
      by: a field of the configuration or a flag whose value names the method; by default the
        agent, whether it was finetuned, and every other setting in which such runs on the same
        data differ.

    Raises:
      InputError: if a run has no evaluations, lacks the field `by`, or runs of one group share no
        evaluated update or do not measure the same thing.
    """
    for run in runs:
        if not run.evaluations:
            raise no_evaluations(run.path)
    # A member that was dropped before the first evaluation leaves nothing to show.
    runs = [part for run in runs for part in split(run) if part.evaluations]
    settings = [flatten(run.flags) | flatten(run.config) for run in runs]
    varied = _varied(runs, settings)
    grouped: dict[tuple[str, str], list[Run]] = {}
    for run, found in zip(runs, settings, strict=True):
        if by is None:
            kind = _kind(found)
            parts = [f"{name}={found.get(name)}" for name in varied.get((run.dataset, kind), [])]
            method = " ".join([kind, *parts])
        elif by in found:
            method = f"{by}={found[by]}"
        else:
            raise InputError(
                f"'{run.path}' has no setting '{by}'; it has {', '.join(sorted(found))}"
            )
        grouped.setdefault((run.dataset, method), []).append(run)
    return [_pool(method, dataset, members) for (dataset, method), members in grouped.items()]


def _kind(found: dict[str, Any]) -> str:
    """Return the agent, and whether it was finetuned."""
    agent = str(found.get("agent", "agent"))
    return f"{agent} finetuned" if any(name.startswith("online.") for name in found) else agent


def _varied(
    runs: Sequence[Run], settings: Sequence[dict[str, Any]]
) -> dict[tuple[str, str], list[str]]:
    """Return, by (data, kind), the settings of the configuration in which its runs differ."""
    names: dict[tuple[str, str], list[str]] = {}
    alike: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for run, found in zip(runs, settings, strict=True):
        key = (run.dataset, _kind(found))
        alike.setdefault(key, []).append(flatten(run.config))
    for key, configs in alike.items():
        names[key] = [
            name
            for name in sorted(set().union(*configs))
            if name not in _NOT_THE_METHOD
            and any(config.get(name) != configs[0].get(name) for config in configs)
        ]
    return names


def _pool(method: str, dataset: str, runs: Sequence[Run]) -> Group:
    labels = {run.score_label for run in runs}
    where = ", ".join(f"'{run.path}'" for run in runs)
    if len(labels) > 1:
        raise InputError(
            f"{where} measure different things ({', '.join(sorted(labels))}); give runs "
            "evaluated alike"
        )
    series = [run.scores() for run in runs]
    common = series[0].updates
    for other in series[1:]:
        common = np.intersect1d(common, other.updates)
    if not len(common):
        raise InputError(f"{where} were never evaluated at the same update; report them apart")
    values = [one.values[np.isin(one.updates, common)] for one in series]
    return Group(method, dataset, runs, Series(common, np.concatenate(values, axis=1)))
