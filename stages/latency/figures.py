"""From samples to figures: pure functions; a figure that the number of samples cannot support is left out."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from embed_foundry.timing import pairing, statistics
from embed_foundry.timing.rounds import Sample

from stages.common.records.latency import BatchLatency, LengthLatency, Speedup

# Samples by round.
Rounds = Mapping[int, Sample]
# Rounds by (tokens, batch).
Calls = Mapping[tuple[int, int], Rounds]


def group_by_variant(samples: Iterable[Sample]) -> dict[str, Calls]:
    """Return variant -> (tokens, batch) -> round -> sample."""
    groups: dict[str, dict[tuple[int, int], dict[int, Sample]]] = defaultdict(lambda: defaultdict(dict))
    for sample in samples:
        groups[sample.variant][sample.tokens, sample.batch][sample.round] = sample
    return {name: dict(calls) for name, calls in groups.items()}


def summarize_lengths(own: Calls, baseline: Calls) -> dict[int, LengthLatency]:
    """Return the figures of one text per call by length in tokens, ascending.

    Args:
        own: the variant's calls.
        baseline: the baseline's calls, of the same lengths.

    Raises:
        ValueError: a length has fewer than 6 rounds that both timed.
    """
    return {
        tokens: _summarize_length(rounds, baseline[tokens, batch])
        for (tokens, batch), rounds in sorted(own.items())
        if batch == 1
    }


def summarize_batch(own: Calls, baseline: Calls, tokens: int, batch: int) -> BatchLatency:
    """Return the figures of calls with `batch` texts of `tokens` tokens.

    Raises:
        ValueError: fewer than 6 rounds were timed by both.
    """
    rounds = own[tokens, batch]
    ms = median(sample.ms for sample in rounds.values())
    return BatchLatency(
        size=batch,
        tokens=tokens,
        n=len(rounds),
        median_ms=round(ms, 4),
        texts_per_s=round(1000 * batch / ms, 2),
        tokens_per_s=round(1000 * batch * tokens / ms, 1),
        speedup=compute_speedup(rounds, baseline[tokens, batch]),
    )


def compute_speedup(own: Rounds, baseline: Rounds) -> Speedup:
    """Return the median of baseline time / own time, paired by round, with its 95 % interval.

    Pairing takes out what slowed both down; single disturbed rounds do not move the median.

    Raises:
        ValueError: there are fewer than 6 ratios.
    """
    own_ms, baseline_ms = ({number: sample.ms for number, sample in rounds.items()} for rounds in (own, baseline))
    ratios = pairing.compute_ratios(own_ms, baseline_ms)
    low, high = statistics.median_interval(ratios)
    return Speedup(median=round(median(ratios), 4), low=round(low, 4), high=round(high, 4))


def _summarize_length(own: Rounds, baseline: Rounds) -> LengthLatency:
    times = [sample.ms for sample in own.values()]
    after_pause = [sample.after_pause_ms for sample in own.values() if sample.after_pause_ms is not None]
    p95_ms, p95_ms_upper = _bound_quantile(times, 0.95)
    p99_ms, p99_ms_upper = _bound_quantile(times, 0.99)
    return LengthLatency(
        n=len(times),
        median_ms=round(median(times), 4),
        after_pause_ms=round(median(after_pause), 4),
        p95_ms=p95_ms,
        p95_ms_upper=p95_ms_upper,
        p99_ms=p99_ms,
        p99_ms_upper=p99_ms_upper,
        speedup=compute_speedup(own, baseline),
    )


def _bound_quantile(times: Sequence[float], p: float) -> tuple[float, float] | tuple[None, None]:
    """Return the p-quantile and its 95 % upper bound; None for both if there are too few times for a bound."""
    upper = statistics.quantile_upper(times, p)
    return (None, None) if upper is None else (round(statistics.quantile(times, p), 4), round(upper, 4))
