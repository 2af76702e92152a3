"""Estimators against scipy, against rliable's numbers, and against what they promise."""

import numpy as np
import pytest
import scipy.stats

from iql_jax.report import statistics


def two_methods():
    generator = np.random.default_rng(0)
    a, b = generator.normal(0, 1, (10, 3)), generator.normal(0.5, 1, (8, 3))
    return list(a.T), list(b.T)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 30])
def test_interquartile_mean_is_the_trimmed_mean(count):
    values = np.random.default_rng(count).normal(size=(4, count))
    wanted = scipy.stats.trim_mean(values, 0.25, axis=1)
    assert np.allclose(statistics.interquartile_mean(values), wanted, rtol=1e-12)


def test_probability_of_improvement_is_mann_whitneys():
    x, y = two_methods()
    y[0][:3] = x[0][:3]  # ties count one half
    tests = [
        scipy.stats.mannwhitneyu(a, b).statistic / (len(a) * len(b))
        for a, b in zip(x, y, strict=True)
    ]
    assert statistics.probability_of_improvement(x, y) == pytest.approx(np.mean(tests), rel=1e-12)
    assert statistics.probability_of_improvement([np.ones(3)], [np.ones(4)]) == 0.5
    assert statistics.probability_of_improvement([np.array([2.0])], [np.array([1.0])]) == 1.0


def test_estimates_and_intervals_agree_with_rliable():
    # rliable 1.2.0 with 50,000 resamples (20,000 for the probability), on an older pandas.
    a, b = two_methods()
    for tasks, iqm, mean, iqm_ends, mean_ends in (
        (a, -0.14516161, -0.1214865, (-0.42566566, 0.17902192), (-0.41413814, 0.16398921)),
        (b, 0.91469052, 0.91231255, (0.52414944, 1.39950452), (0.55620183, 1.26912169)),
    ):
        assert statistics.iqm_over_tasks(tasks) == pytest.approx(iqm, abs=1e-7)
        assert statistics.mean_over_tasks(tasks) == pytest.approx(mean, abs=1e-7)
        found = statistics.stratified_interval(tasks, statistics.iqm_over_tasks)
        assert found == pytest.approx(iqm_ends, abs=0.03)
        found = statistics.stratified_interval(tasks, statistics.mean_over_tasks)
        assert found == pytest.approx(mean_ends, abs=0.03)
    assert statistics.probability_of_improvement(b, a) == pytest.approx(0.8125, abs=1e-12)
    assert statistics.improvement_interval(b, a) == pytest.approx((0.68333, 0.925), abs=0.01)


def test_bootstrap_interval_has_the_width_of_the_standard_error():
    values = np.random.default_rng(1).normal(10, 3, 100)
    low, high = statistics.bootstrap_interval(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 10, rel=0.05)
    assert statistics.bootstrap_interval(values) == (low, high)  # the same for the same seed
    narrow = statistics.bootstrap_interval(values, confidence=0.5)
    assert low < narrow[0] < narrow[1] < high


def test_one_member_has_no_interval_and_lost_members_are_left_out():
    assert np.isnan(statistics.bootstrap_interval([5.0])).all()
    assert np.isnan(statistics.bootstrap_interval([])).all()
    assert np.isnan(statistics.bootstrap_interval([5.0, np.nan])).all()
    values = np.array([1.0, 2.0, 4.0])
    with_lost = statistics.bootstrap_interval([*values, np.nan])
    assert with_lost == statistics.bootstrap_interval(values)
    lonely = [np.array([1.0]), np.array([1.0, 2.0])]
    assert np.isnan(statistics.stratified_interval(lonely, statistics.mean_over_tasks)).all()
    assert np.isnan(statistics.improvement_interval(lonely, lonely)).all()


def test_a_band_is_the_interval_of_every_row():
    values = np.random.default_rng(2).normal(size=(130, 5))  # more rows than a block
    values[3, 1:] = np.nan
    values[4, 2] = np.nan
    low, high = statistics.bootstrap_band(values)
    for row in (0, 70, 129):
        assert (low[row], high[row]) == pytest.approx(statistics.bootstrap_interval(values[row]))
    assert np.isnan(low[3])
    assert low[4] < np.nanmean(values[4]) < high[4]
    assert np.isnan(statistics.bootstrap_band(values[:, :1])[1]).all()
