"""From samples to figures; pure, and no figure that its number of samples cannot carry."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from stages.common.measure import statistics
from stages.latency.timing import Sample

# Percentiles worth a place: each appears only where n carries its upper bound (59 and 299 samples).
TAILS = {"p95_ms": 0.95, "p99_ms": 0.99}

# Samples by round.
Rounds = Mapping[int, Sample]
# Rounds by (tokens, batch).
Calls = Mapping[tuple[int, int], Rounds]


def by_variant(samples: Iterable[Sample]) -> dict[str, Calls]:
    """Return variant -> (tokens, batch) -> round -> sample."""
    found: dict[str, dict[tuple[int, int], dict[int, Sample]]] = defaultdict(lambda: defaultdict(dict))
    for sample in samples:
        found[sample.variant][sample.tokens, sample.batch][sample.round] = sample
    return {name: dict(calls) for name, calls in found.items()}


def lengths(mine: Calls, baseline: Calls) -> dict[str, Any]:
    """Return the figures of single texts: tokens -> n, median_ms, after_pause_ms, tails that n carries, speedup."""
    return {
        str(tokens): single(list(rounds.values())) | {"speedup": speedup(rounds, baseline[tokens, batch])}
        for (tokens, batch), rounds in sorted(mine.items())
        if batch == 1
    }


def single(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return n, median_ms, after_pause_ms and each percentile that n carries with its upper bound."""
    times = [sample.ms for sample in samples]
    pauses = [sample.after_pause_ms for sample in samples if sample.after_pause_ms is not None]
    found: dict[str, Any] = {"n": len(times), "median_ms": round(median(times), 4)}
    found["after_pause_ms"] = round(median(pauses), 4)
    for name, p in TAILS.items():
        upper = statistics.quantile_upper(times, p)
        if upper is not None:
            found |= {name: round(statistics.quantile(times, p), 4), f"{name}_upper": round(upper, 4)}
    return found


def batches(mine: Calls, baseline: Calls, tokens: int, batch: int) -> dict[str, Any]:
    """Return the figures of one batched call: size, tokens, n, median_ms, texts_per_s, tokens_per_s, speedup."""
    rounds = mine[tokens, batch]
    ms = median(sample.ms for sample in rounds.values())
    return {
        "size": batch,
        "tokens": tokens,
        "n": len(rounds),
        "median_ms": round(ms, 4),
        "texts_per_s": round(1000 * batch / ms, 2),
        "tokens_per_s": round(1000 * batch * tokens / ms, 1),
        "speedup": speedup(rounds, baseline[tokens, batch]),
    }


def speedup(mine: Rounds, baseline: Rounds) -> dict[str, float]:
    """Return the median of baseline time / own time over the rounds that have both, with its 95 % interval.

    Pairing by round takes out what slowed both down; the median is not moved by single disturbed rounds.

    Raises:
        ValueError: fewer than 6 rounds have both.
    """
    ratios = [baseline[number].ms / sample.ms for number, sample in mine.items() if number in baseline]
    low, high = statistics.median_interval(ratios)
    return {"median": round(median(ratios), 4), "low": round(low, 4), "high": round(high, 4)}
