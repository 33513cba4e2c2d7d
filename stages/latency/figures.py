"""From samples to figures; pure, and no figure that its number of samples cannot carry."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

from stages.common import stats
from stages.latency.timing import Sample

# Percentiles worth a place: each appears only where n carries its upper bound (59 and 299 samples).
TAILS = {"p95_ms": 0.95, "p99_ms": 0.99}

# Milliseconds by round.
Rounds = Mapping[int, float]
# Rounds by (tokens, batch).
Calls = Mapping[tuple[int, int], Rounds]


def by_variant(samples: Iterable[Sample]) -> dict[str, Calls]:
    """Return variant -> (tokens, batch) -> round -> milliseconds."""
    found: dict[str, dict[tuple[int, int], dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for sample in samples:
        found[sample.variant][sample.tokens, sample.batch][sample.round] = sample.ms
    return {name: dict(calls) for name, calls in found.items()}


def lengths(mine: Calls, baseline: Calls) -> dict[str, Any]:
    """Return the figures of single texts: tokens -> n, median_ms, percentiles that n carries, speedup."""
    return {str(tokens): _timed(times) | {"speedup": speedup(times, baseline[tokens, batch])}
            for (tokens, batch), times in sorted(mine.items()) if batch == 1}  # fmt: skip


def batches(mine: Calls, baseline: Calls, tokens: int, batch: int) -> dict[str, Any]:
    """Return the figures of one batched call: size, tokens, n, median_ms, texts_per_s, tokens_per_s, speedup."""
    times = mine[tokens, batch]
    per_s = 1000 * batch / median(times.values())
    return {
        "size": batch,
        "tokens": tokens,
        "n": len(times),
        "median_ms": round(median(times.values()), 4),
        "texts_per_s": round(per_s, 2),
        "tokens_per_s": round(per_s * tokens, 1),
        "speedup": speedup(times, baseline[tokens, batch]),
    }


def speedup(mine: Rounds, baseline: Rounds) -> dict[str, float]:
    """Return the median of baseline time / own time over the rounds that have both, with its 95 % interval.

    Pairing by round takes out what slowed both down; the median is not moved by single disturbed rounds.

    Raises:
        ValueError: fewer than 6 rounds have both.
    """
    ratios = [baseline[number] / ms for number, ms in mine.items() if number in baseline]
    low, high = stats.median_interval(ratios)
    return {"median": round(median(ratios), 4), "low": round(low, 4), "high": round(high, 4)}


def _timed(times: Rounds) -> dict[str, float]:
    values = list(times.values())
    found: dict[str, float] = {"n": len(values), "median_ms": round(median(values), 4)}
    for name, p in TAILS.items():
        upper = stats.quantile_upper(values, p)
        if upper is not None:
            found |= {name: round(stats.quantile(values, p), 4), f"{name}_upper": round(upper, 4)}
    return found
