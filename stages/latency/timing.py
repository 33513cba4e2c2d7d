"""Taking samples: cold starts one after the other, then rounds in which every variant encodes the same texts once.

Only one worker computes at a time. Rounds interleave the variants so that whatever else the machine does falls on all
of them alike, and a variant's time is compared with the baseline's of the same round.

A single text is encoded twice in a row, and the second call is the sample: the first one after a pause also pays for
waking threads and caches (7 to 18 ms where the second takes 5.5 to 6.5), which scatters more than variants differ. It
is kept beside the sample, since a service with little traffic pays for it, too.
"""

import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from statistics import median

from stages.common.contract.tables import write_csv
from stages.common.measure import statistics
from stages.latency.worker_pool import WorkerPool
from stages.latency.worker_process import EncodeRequest

# Warm-up ends when no variant gets faster by more than this factor, after MIN rounds at least and MAX at most.
STILL_FASTER = 0.9
WARM_UP_MIN, WARM_UP_MAX = 3, 12

# Moves a progress bar by one step.
Advance = Callable[[], object]


@dataclass(frozen=True)
class Sample:
    """One timed call, a row of samples.csv.

    Attributes:
        variant: its name.
        tokens: length of each text.
        batch: texts in the call.
        round: number of the round; samples of one round and one (tokens, batch) are paired.
        ms: time of the call in milliseconds, tokenization included.
        after_pause_ms: time of the same call just before, the first after a pause; None in batches.
    """

    variant: str
    tokens: int
    batch: int
    round: int
    ms: float
    after_pause_ms: float | None


@dataclass(frozen=True)
class Series:
    """One kind of call and how often it is timed.

    Attributes:
        tokens: length of each text.
        batch: texts in a call.
        rounds: the least number of rounds.
        gap_s: pause before each call; threads of the last call that still spin would slow it down.
        tight: more rounds follow until the interval of every ratio is within this part of its median,
        extra_s: or until they have taken so many seconds.
    """

    tokens: int
    batch: int
    rounds: int
    gap_s: float
    tight: float = math.inf
    extra_s: float = 0.0


def time_cold_starts(pool: WorkerPool, how_many: int, rng: random.Random, advance: Advance) -> dict[str, list[float]]:
    """Start every variant `how_many` times in a fresh process; return the seconds to its first vector, in order.

    The processes of the last round stay open. Files may come from the page cache: it is the process that is cold.

    Args:
        pool: the workers.
        how_many: starts of each variant.
        rng: shuffles the variants of each round.
        advance: called after each start.
    """
    seconds: dict[str, list[float]] = {name: [] for name in pool.names}
    for left in reversed(range(how_many)):
        for name in rng.sample(pool.names, len(pool.names)):
            elapsed = pool.start(name)
            if elapsed is not None:
                seconds[name].append(elapsed)
            if left:
                pool.stop(name)
            advance()
    return seconds


def time_series(
    series: Series, pool: WorkerPool, names: Sequence[str], texts: Sequence[str], rng: random.Random, advance: Advance
) -> list[Sample]:
    """Warm up, then time each variant once a round, in a new order each round, on texts that rotate by round.

    Args:
        series: what is timed, and how often.
        pool: the workers, started.
        names: the variants to time.
        texts: texts of `series.tokens` tokens.
        rng: shuffles the variants of each round.
        advance: called after each round that `series.rounds` counts.
    """
    _warm_up(series, pool, names, texts, rng)
    samples = []
    for number in range(series.rounds):
        samples += _time_round(series, pool, names, texts, number, rng)
        advance()
    end, number = time.monotonic() + series.extra_s, series.rounds
    while time.monotonic() < end and not _are_ratios_tight(samples, pool.baseline, series.tight):
        samples += _time_round(series, pool, names, texts, number, rng)
        number += 1
    return samples


def write_samples(path: Path, samples: Iterable[Sample]) -> None:
    """Write samples as CSV; times have 4 digits after the point, an absent one is empty."""
    rows = ([round(value, 4) if isinstance(value, float) else value for value in astuple(sample)] for sample in samples)
    write_csv(path, [field.name for field in fields(Sample)], rows)


def _are_ratios_tight(samples: Sequence[Sample], baseline: str, part: float) -> bool:
    """Return whether the interval of every variant's median ratio to the baseline is within `part` of that median.

    Stopping on the interval's width, never on where it lies, keeps its coverage close to nominal (Chow & Robbins, On
    the Asymptotic Theory of Fixed-Width Sequential Confidence Intervals, Annals of Mathematical Statistics 36, 1965).
    """
    times: dict[str, dict[int, float]] = defaultdict(dict)
    for sample in samples:
        times[sample.variant][sample.round] = sample.ms
    for name, own in times.items():
        if name == baseline:
            continue
        ratios = [times[baseline][number] / ms for number, ms in own.items() if number in times[baseline]]
        low, high = statistics.median_interval(ratios)
        middle = median(ratios)
        if max(high - middle, middle - low) > part * middle:
            return False
    return True


def _warm_up(series: Series, pool: WorkerPool, names: Sequence[str], texts: Sequence[str], rng: random.Random) -> None:
    best: dict[str, float] = {}
    for number in range(WARM_UP_MAX):
        times = {sample.variant: sample.ms for sample in _time_round(series, pool, names, texts, number, rng)}
        settled = all(ms > STILL_FASTER * best.get(name, math.inf) for name, ms in times.items())
        if settled and number + 1 >= WARM_UP_MIN:
            return
        best = {name: min(ms, best.get(name, ms)) for name, ms in times.items()}


def _time_round(
    series: Series, pool: WorkerPool, names: Sequence[str], texts: Sequence[str], number: int, rng: random.Random
) -> list[Sample]:
    """Return one sample of each variant that answered."""
    first = number * series.batch
    request = EncodeRequest([texts[index % len(texts)] for index in range(first, first + series.batch)])
    calls = 2 if series.batch == 1 else 1
    samples = []
    for name in rng.sample(names, len(names)):
        time.sleep(series.gap_s)
        times = [ms for _ in range(calls) if (ms := pool.ask(name, request)) is not None]
        if len(times) == calls:
            after_pause_ms = times[0] if series.batch == 1 else None
            samples.append(Sample(name, series.tokens, series.batch, number, times[-1], after_pause_ms))
    return samples
