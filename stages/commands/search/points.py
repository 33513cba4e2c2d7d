"""What a search finds out of each recipe, and which recipes no other beats."""

import math
from collections.abc import Mapping
from pathlib import Path

from embed_foundry import Variant

from stages.common.contract.output import folder_size
from stages.common.records.base import Failure, Record, SparseRecord
from stages.common.records.latency import Quota, VariantLatency
from stages.common.records.parity import parity_of

MB = 1_000_000


class Point(SparseRecord):
    """One recipe's place among the others.

    Attributes:
        size_mb: of all its files, in 10^6 bytes.
        speedup: geometric mean of speedups.
        speedups: tokens -> median speed-up over the baseline.
        cold_start_s, peak_rss_mb: as in latency.json.
        cosine_mean, cosine_min, at_limit, batch_shift_max: as in the variant's parity; cosines are absent where the
            variant has a vector space of its own.
    """

    size_mb: float
    speedup: float
    speedups: dict[int, float]
    cold_start_s: float
    peak_rss_mb: float
    cosine_mean: float | None = None
    cosine_min: float | None = None
    at_limit: float | None = None
    batch_shift_max: float

    @property
    def axes(self) -> tuple[float, float, float]:
        """The figures that points are compared by: quality, speed, size; higher is better.

        A vector space of its own counts as the least quality: no cosine says how good it is.
        """
        return (-math.inf if self.cosine_mean is None else self.cosine_mean, self.speedup, -self.size_mb)


class SearchResults(Record):
    """results.json.

    Attributes:
        points: recipe -> its point, or why it has none.
        front: the recipes that no other beats, sorted.
        quota: the CPU quota under which they were timed.
    """

    points: dict[str, Point | Failure]
    front: list[str]
    quota: Quota


def build_point(folder: Path, times: VariantLatency | Failure) -> Point | Failure:
    """Return a recipe's point, or why it has none.

    Args:
        folder: the converted variant.
        times: its latency.

    Raises:
        IntegrityError: the variant's record is not what the convert stage writes.
    """
    parity = parity_of(Variant.load(folder))
    if isinstance(parity, Failure):
        return parity
    if isinstance(times, Failure):
        return times
    speedups = {tokens: length.speedup.median for tokens, length in times.lengths.items()}
    return Point(
        size_mb=round(folder_size(folder) / MB, 1),
        speedup=round(math.exp(sum(map(math.log, speedups.values())) / len(speedups)), 3),
        speedups=speedups,
        cold_start_s=times.cold_start_s.median,
        peak_rss_mb=times.peak_rss_mb,
        cosine_mean=parity.cosine_mean,
        cosine_min=parity.cosine_min,
        at_limit=parity.at_limit,
        batch_shift_max=parity.batch_shift_max,
    )


def find_front(points: Mapping[str, Point | Failure]) -> set[str]:
    """Return the names of points that no other point equals or beats on every axis and beats on one."""
    axes = {name: point.axes for name, point in points.items() if isinstance(point, Point)}
    return {
        name
        for name, own in axes.items()
        if not any(all(a >= b for a, b in zip(other, own, strict=True)) and other != own for other in axes.values())
    }
