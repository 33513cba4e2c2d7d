"""Ratios of two variants' times: each time with the other variant's nearest, so that what slowed both down cancels."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

from . import statistics

if TYPE_CHECKING:
    from .rounds import Sample

# Rounds that may be between two times of a ratio.
NEAR = 4
# Milliseconds by round.
RoundTimes = Mapping[int, float]


def group_by_round(samples: Iterable["Sample"]) -> dict[str, dict[int, float]]:
    """Return variant -> round -> milliseconds."""
    times: dict[str, dict[int, float]] = defaultdict(dict)
    for sample in samples:
        times[sample.variant][sample.round] = sample.ms
    return dict(times)


def compute_ratios(own: RoundTimes, baseline: RoundTimes) -> list[float]:
    """Return baseline time / own time, one ratio for each time of the variant that was timed less often.

    Each time of the other variant belongs to the nearest of these rounds, the earlier one of two, if it is within NEAR;
    their median is the other side of the ratio. So no time counts twice, and ratios are as independent as rounds are.
    """
    if len(own) < len(baseline):
        return [1 / ratio for ratio in compute_ratios(baseline, own)]
    groups: dict[int, list[float]] = defaultdict(list)
    rounds = sorted(baseline)
    for number, ms in own.items():
        nearest = _find_nearest(rounds, number)
        if abs(nearest - number) <= NEAR:
            groups[nearest].append(ms)
    return [baseline[number] / median(group) for number, group in sorted(groups.items())]


def is_tight(ratios: Sequence[float], part: float) -> bool:
    """Return whether the interval of the median is within `part` of the median on both sides."""
    low, high = statistics.median_interval(ratios)
    middle = median(ratios)
    return max(high - middle, middle - low) <= part * middle


def _find_nearest(rounds: Sequence[int], number: int) -> int:
    index = bisect_right(rounds, number)
    neighbours = rounds[max(0, index - 1) : index + 1]
    return min(neighbours, key=lambda other: (abs(other - number), other))
