"""Ratios of variants that were timed in different rounds, and how often their intervals hold the truth."""

from statistics import median

import numpy as np
import pytest
from embed_foundry.timing import pairing, rounds, statistics


def test_times_of_the_same_rounds_are_divided_round_by_round():
    assert pairing.compute_ratios({0: 1.0, 1: 2.0, 2: 4.0}, {0: 8.0, 1: 8.0, 2: 8.0}) == [8.0, 4.0, 2.0]


def test_a_slow_baselines_time_is_divided_by_the_median_of_the_rounds_around_it():
    own = {0: 1.0, 1: 2.0, 2: 100.0, 3: 4.0, 4: 5.0, 5: 6.0}
    assert pairing.compute_ratios(own, {0: 30.0, 3: 40.0}) == [30 / 1.5, 40 / 5.5]


def test_a_slow_variants_time_is_paired_the_same_way():
    ratios = pairing.compute_ratios({0: 10.0, 2: 20.0}, {0: 10.0, 1: 30.0, 2: 40.0, 3: 60.0})
    assert ratios == pytest.approx([20 / 10, 50 / 20])


def test_times_far_from_each_other_are_not_compared():
    own = {number: 1.0 if number < 10 else 50.0 for number in range(100)}
    assert pairing.compute_ratios(own, {0: 3.0, 4: 3.0}) == [3.0, 3.0]


@pytest.mark.parametrize("period", [1, 2, 4])
def test_intervals_hold_the_true_ratio_as_often_as_they_say(period):
    """Times with a drift that both share, and each call's own scatter with outliers."""
    rng, hits, trials = np.random.default_rng(period), 0, 600
    for _ in range(trials):
        drift = np.exp(np.cumsum(rng.normal(0, 0.02, 60)))
        scatter = np.exp(rng.normal(0, 0.05, (2, 60))) * np.where(rng.random((2, 60)) < 0.05, 1.5, 1.0)
        own = {number: float(drift[number] * scatter[0, number]) for number in range(60)}
        baseline = {number: float(4 * drift[number] * scatter[1, number]) for number in range(0, 60, period)}
        low, high = statistics.median_interval(pairing.compute_ratios(own, baseline))
        hits += low <= 4 <= high
    assert hits / trials >= 0.93


def test_a_ratio_is_tight_within_a_share_of_its_median():
    ratios = [0.96, 0.98, 0.99, 1.0, 1.0, 1.01, 1.02, 1.04]
    low, high = statistics.median_interval(ratios)
    width = max(high - median(ratios), median(ratios) - low)
    assert pairing.is_tight(ratios, width * 1.001)
    assert not pairing.is_tight(ratios, width * 0.999)


@pytest.mark.parametrize(
    ("seconds", "periods"),
    [
        (1000, {"slow": 1, "middle": 1, "fast": 1}),  # time for every variant in each of the 60 rounds
        (120, {"slow": 4, "middle": 1, "fast": 1}),
        (30, {"slow": 2, "middle": 1, "fast": 1}),  # nine samples of the slow one in every fourth round take 36 s
        (20, {"slow": 1, "middle": 1, "fast": 1}),  # not even time for nine samples of each
    ],
)
def test_slow_variants_are_timed_less_often_where_that_buys_rounds(seconds, periods):
    series = rounds.Series(tokens=8, batch=1, rounds=60, seconds=seconds)
    assert rounds._choose_periods(series, {"slow": 1000.0, "middle": 250.0, "fast": 1.0}, seconds) == periods
