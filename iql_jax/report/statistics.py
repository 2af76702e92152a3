"""Estimates over members and tasks, with percentile bootstrap intervals.

These are the estimators of "Deep Reinforcement Learning at the Edge of the Statistical Precipice"
(https://arxiv.org/abs/2108.13264): interquartile mean, probability of improvement, and intervals
from resampling the runs of each task apart (stratified). They are computed here with NumPy,
because the authors' package `rliable` no longer imports with current releases of what it needs.
"""

from collections.abc import Callable, Sequence

import numpy as np

NO_INTERVAL = (float("nan"), float("nan"))
RESAMPLES = 10_000


def interquartile_mean(scores: np.ndarray) -> np.ndarray:
    """Return the mean of the middle half of `scores` f64[..., N] along the last axis, f64[...].

    A quarter of the values, rounded down, is left out at each end.
    """
    ordered = np.sort(scores, axis=-1)
    cut = ordered.shape[-1] // 4
    return ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1)


def mean_over_tasks(tasks: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean of the tasks' means, f64[...], `tasks` being f64[..., N] each.

    Every task weighs the same, however many runs it has.
    """
    return np.mean([scores.mean(axis=-1) for scores in tasks], axis=0)


def iqm_over_tasks(tasks: Sequence[np.ndarray]) -> np.ndarray:
    """Return the interquartile mean of all runs of all `tasks` f64[..., N] together, f64[...]."""
    return interquartile_mean(np.concatenate(tasks, axis=-1))


def bootstrap_interval(
    values: np.ndarray, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Return (low, high), the percentile bootstrap interval of the mean of `values` f64[P].

    Values that are not finite (members that were dropped) are left out. With fewer than two
    values there is no interval: both ends are NaN.
    """
    values = np.asarray(values, np.float64)
    low, high = bootstrap_band(values[np.isfinite(values)][None], confidence, seed)
    return float(low[0]), float(high[0])


def bootstrap_band(
    values: np.ndarray, confidence: float = 0.95, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return low and high f64[U]: `bootstrap_interval` of every row of `values` f64[U, P].

    Members are resampled once for all rows, as the same runs make the whole curve.
    """
    values = np.asarray(values, np.float64)
    members = values.shape[1]
    if members < 2:
        nothing = np.full(len(values), np.nan)
        return nothing, nothing.copy()
    generator = np.random.default_rng(seed)
    # How often each resample drew each member; the mean is then one matrix product.
    counts = generator.multinomial(members, np.full(members, 1 / members), RESAMPLES)
    low, high = np.full(len(values), np.nan), np.full(len(values), np.nan)
    for start in range(0, len(values), 64):  # a block of rows x RESAMPLES stays a few megabytes
        block = slice(start, start + 64)
        low[block], high[block] = _band(values[block], counts.T.astype(np.float64), confidence)
    return low, high


def _band(
    values: np.ndarray, counts: np.ndarray, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return low and high f64[U] of the means of `values` f64[U, P] under `counts` f64[P, R]."""
    finite = np.isfinite(values)
    drawn = finite @ counts
    means = np.where(finite, values, 0.0) @ counts
    means = np.divide(means, drawn, out=np.full_like(means, np.nan), where=drawn > 0)
    low, high = np.full(len(values), np.nan), np.full(len(values), np.nan)
    enough = finite.sum(axis=1) >= 2
    if enough.any():
        tail = (1 - confidence) / 2
        low[enough], high[enough] = np.nanquantile(means[enough], [tail, 1 - tail], axis=1)
    return low, high


def probability_of_improvement(x: Sequence[np.ndarray], y: Sequence[np.ndarray]) -> float:
    """Return P(X > Y) averaged over tasks, ties counting one half.

    Args:
      x: for each task, the scores f64[N] of the runs of the first method.
      y: for each of the same tasks, the scores f64[M] of the second.
    """
    return float(np.mean([_wins(a, b) for a, b in zip(x, y, strict=True)]))


def _wins(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the fraction of pairs in which `a` f64[..., N] beats `b` f64[..., M], f64[...]."""
    difference = a[..., :, None] - b[..., None, :]
    return ((difference > 0) + 0.5 * (difference == 0)).mean(axis=(-2, -1))


def _resample(
    scores: np.ndarray, generator: np.random.Generator, resamples: int = RESAMPLES
) -> np.ndarray:
    """Return f64[resamples, N], rows of `scores` f64[N] drawn with replacement."""
    return scores[generator.integers(len(scores), size=(resamples, len(scores)))]


def _percentiles(estimates: np.ndarray, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low, high = np.quantile(estimates, [tail, 1 - tail])
    return float(low), float(high)


def stratified_interval(
    tasks: Sequence[np.ndarray],
    statistic: Callable[[Sequence[np.ndarray]], np.ndarray],
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Return (low, high) of `statistic` over the runs of all tasks, each task resampled apart.

    Args:
      tasks: for each task, the scores f64[N] of its runs.
      statistic: takes f64[R, N] for each task, R resamples of its runs, to f64[R].
      confidence: the probability the interval is meant to cover.
      seed: of the resampling.

    With fewer than two runs of some task there is no interval: both ends are NaN.
    """
    if min(len(scores) for scores in tasks) < 2:
        return NO_INTERVAL
    generator = np.random.default_rng(seed)
    return _percentiles(statistic([_resample(scores, generator) for scores in tasks]), confidence)


def improvement_interval(
    x: Sequence[np.ndarray], y: Sequence[np.ndarray], confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Return (low, high) of `probability_of_improvement`, resampling each task's runs apart."""
    if min(len(scores) for scores in [*x, *y]) < 2:
        return NO_INTERVAL
    generator = np.random.default_rng(seed)
    pairs = list(zip(x, y, strict=True))
    estimates = [_resampled_wins(pairs, generator, 500) for _ in range(RESAMPLES // 500)]
    return _percentiles(np.concatenate(estimates), confidence)


def _resampled_wins(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], generator: np.random.Generator, resamples: int
) -> np.ndarray:
    """Return f64[resamples], wins averaged over tasks; a block at a time, to bound the memory."""
    wins = [
        _wins(_resample(a, generator, resamples), _resample(b, generator, resamples))
        for a, b in pairs
    ]
    return np.mean(wins, axis=0)
