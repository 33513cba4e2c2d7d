"""The promises of order statistics, held against simulated samples of shapes that timings have."""

import numpy as np
import pytest
from embed_foundry.timing import statistics

TRIALS = 3000
# Three standard errors of a share near 0.95 over TRIALS.
ERROR = 3 * (0.95 * 0.05 / TRIALS) ** 0.5


def draw_samples(n: int) -> np.ndarray:
    """Return TRIALS samples of n skewed values with rare disturbances: float64 [TRIALS, n]."""
    rng = np.random.default_rng(n)
    return rng.lognormal(0, 0.5, (TRIALS, n)) * np.where(rng.random((TRIALS, n)) < 0.05, 10, 1)


TRUTH = np.sort(np.concatenate([draw_samples(n).ravel() for n in (401, 402, 403)]))


@pytest.mark.parametrize("n", [6, 7, 10, 59, 60, 300])
def test_the_interval_covers_the_median_as_often_as_it_says(n):
    truth = np.quantile(TRUTH, 0.5)
    intervals = np.array([statistics.median_interval(row.tolist()) for row in draw_samples(n)])
    covered = ((intervals[:, 0] <= truth) & (truth <= intervals[:, 1])).mean()
    assert covered >= 0.95 - ERROR
    if n >= 59:  # ranks are dense enough that a wider interval would be a waste
        assert covered <= 0.98


@pytest.mark.parametrize(("p", "n"), [(0.95, 59), (0.95, 100), (0.95, 299), (0.99, 299), (0.99, 500)])
def test_the_upper_bound_lies_above_the_quantile_as_often_as_it_says(p, n):
    truth = np.quantile(TRUTH, p)
    bounds = np.array([statistics.quantile_upper(row.tolist(), p) for row in draw_samples(n)])
    assert (bounds >= truth).mean() >= 0.95 - ERROR


@pytest.mark.parametrize(("p", "least"), [(0.95, 59), (0.99, 299)])
def test_the_maximum_is_the_bound_of_the_fewest_values_that_have_one(p, least):
    values = [float(value) for value in np.random.default_rng(0).permutation(least)]
    assert statistics.quantile_upper(values[: least - 1], p) is None
    assert statistics.quantile_upper(values, p) == max(values)
    assert statistics.quantile_upper([], p) is None


@pytest.mark.parametrize("n", range(6))
def test_too_few_values_have_no_interval(n):
    with pytest.raises(ValueError, match="too few for a 95% interval"):
        statistics.median_interval([1.0] * n)


def test_the_interval_is_the_narrowest_that_still_covers():
    from scipy.stats import binom

    for n in range(6, 300):
        low, high = statistics.median_interval([float(rank) for rank in range(1, n + 1)])
        assert low + high == n + 1
        assert 1 - 2 * binom.cdf(low - 1, n, 0.5) >= 0.95 > 1 - 2 * binom.cdf(low, n, 0.5)


def test_a_quantile_is_an_observed_value():
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert [statistics.quantile(values, p) for p in (0.0, 0.2, 0.21, 0.5, 0.8, 1.0)] == [1, 1, 2, 3, 4, 5]
    assert statistics.quantile([float(rank) for rank in range(1, 101)], 0.95) == 95


def test_the_quantiles_are_those_of_the_binomial_distribution():
    from scipy.stats import binom

    for n in (1, 6, 59, 60, 299, 1000):
        for p in (0.5, 0.95, 0.99):
            for q in (0.025, 0.5, 0.95):
                assert statistics._binomial_quantile(q, n, p) == binom.ppf(q, n, p)
