"""Taking samples: cold starts one after the other, then rounds in which every variant encodes the same texts once.

Only one worker computes at a time; the others are stopped by a signal, because threads that still spin would slow it
down. Rounds interleave the variants so that whatever else the machine does falls on all of them alike, and a variant's
time is compared with the baseline's of the same or the nearest round.

A single text is encoded twice in a row, and the second call is the sample: the first one also pays for waking threads
and caches (7 to 18 ms where the second takes 5.5 to 6.5), which scatters more than variants differ. In some rounds the
first call comes after a pause and is kept beside the sample, since a service with little traffic pays for it, too.
"""

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from . import pairing
from .worker_pool import WorkerPool
from .worker_process import STOPS_IDLE, EncodeRequest

# Warm-up ends when no variant gets faster by more than this factor, after MIN rounds at least and MAX at most; a part
# of a series' time is enough for it, too, since the first call of a variant loads all that there is to load.
STILL_FASTER = 0.9
WARM_UP_MIN, WARM_UP_MAX, WARM_UP_PART = 3, 12, 0.1
# Every how many rounds the first call of a variant comes after a pause.
PAUSE_EVERY = 6
# A call of so many milliseconds is its own warm-up: what the first call pays for in addition is within 5 % of it.
LONG_MS = 200.0
# Samples that a series has of every variant, whatever they take: 6 support an interval at all, 9 one without extremes.
SAMPLES_MIN, BATCH_SAMPLES_MIN = 9, 6
# A slow variant has at least every so many rounds a sample.
PERIOD_MAX = 4
# Further cold starts of a variant are left out once they have taken so many seconds.
COLD_START_S = 30.0

# Takes the share of a series that is done, 0 to 1.
Advance = Callable[[float], object]


@dataclass(frozen=True)
class Sample:
    """One timed call.

    Attributes:
        variant: its name.
        tokens: length of each text.
        batch: texts in the call.
        round: number of the round.
        ms: time of the call in milliseconds, tokenization included.
        after_pause_ms: time of the same call just before, after a pause; None in rounds without one.
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
        rounds: the number of rounds if time allows.
        seconds: time for the series; after SAMPLES_MIN samples of each variant it ends with it.
        tight: part of its median within which the interval of a ratio must be; more rounds follow where it is not.
        gap_s: the pause before a call whose time after a pause is taken.
        twice: whether even long calls are made twice: under a quota, the first one has time left from the pause.
    """

    tokens: int
    batch: int
    rounds: int
    seconds: float
    tight: float = math.inf
    gap_s: float = 0.0
    twice: bool = False

    @property
    def samples_min(self) -> int:
        """Samples that every variant has at least."""
        return min(self.rounds, SAMPLES_MIN if self.batch == 1 else BATCH_SAMPLES_MIN)


@dataclass
class SeriesTimes:
    """The samples of one series, as they come.

    Attributes:
        series: what is timed.
        samples: the calls.
        rounds: how many rounds there were.
        seconds: how long they took, warm-up included.
        periods: variant -> every how many rounds it was timed.
    """

    series: Series
    samples: list[Sample] = field(default_factory=list)
    rounds: int = 0
    seconds: float = 0.0
    periods: dict[str, int] = field(default_factory=dict)


def time_cold_starts(
    pool: WorkerPool, how_many: int, rng: random.Random, advance: Callable[[], object]
) -> dict[str, list[float]]:
    """Start every variant in fresh processes; return the seconds to its first vector, in order.

    The last process of each stays open. Files may come from the page cache: it is the process that is cold.

    Args:
        pool: the workers.
        how_many: starts of each variant, fewer once they have taken COLD_START_S.
        rng: shuffles the variants of each round.
        advance: called after each start.
    """
    seconds: dict[str, list[float]] = {name: [] for name in pool.names}
    for _ in range(how_many):
        for name in rng.sample(pool.names, len(pool.names)):
            if sum(seconds[name]) < COLD_START_S and (elapsed := pool.start(name)) is not None:
                seconds[name].append(elapsed)
            advance()
    return seconds


def time_series(
    series: Series, pool: WorkerPool, names: Sequence[str], texts: Sequence[str], rng: random.Random, advance: Advance
) -> SeriesTimes:
    """Warm up, then time the variants round by round, in a new order each round, on texts that rotate by round.

    Args:
        series: what is timed, and how often.
        pool: the workers, started.
        names: the variants to time.
        texts: texts of `series.tokens` tokens.
        rng: shuffles the variants of each round.
        advance: called after each round.
    """
    start = time.monotonic()
    times = SeriesTimes(series)
    call_ms = _warm_up(series, pool, names, texts, rng)
    left = series.seconds - (time.monotonic() - start)
    times.periods = _choose_periods(series, call_ms, left)
    while due := _choose_due(times, pool, names, series.seconds - times.seconds):
        times.samples += _time_round(series, pool, due, texts, times.rounds, rng, call_ms)
        times.rounds += 1
        times.seconds = time.monotonic() - start
        advance(min(1.0, max(times.rounds / series.rounds, times.seconds / series.seconds)))
    return times


def _choose_due(times: SeriesTimes, pool: WorkerPool, names: Sequence[str], left: float) -> list[str]:
    """Return the variants of the next round; none if the series is complete.

    All of them, slow ones in every so many rounds, until the series has its rounds or no time is left; then only those
    whose ratio is not tight yet, and the baseline, for as many rounds again at most. Stopping on an interval's width,
    never on where it lies, keeps its coverage close to nominal (Chow & Robbins, On the Asymptotic Theory of Fixed-Width
    Sequential Confidence Intervals, Annals of Mathematical Statistics 36, 1965).
    """
    series, alive = times.series, [name for name in names if name in pool.names]
    by_variant = pairing.group_by_round(times.samples)
    missing = any(len(by_variant.get(name, {})) < series.samples_min for name in alive)
    if missing or (left > 0 and times.rounds < series.rounds):
        return [name for name in alive if times.rounds % times.periods.get(name, 1) == 0] or alive
    if left <= 0 or times.rounds >= 2 * series.rounds:
        return []
    baseline = by_variant[pool.baseline]
    loose = [
        name
        for name in alive
        if name != pool.baseline
        and not pairing.is_tight(pairing.compute_ratios(by_variant[name], baseline), series.tight)
    ]
    return [pool.baseline, *loose] if loose else []


def _choose_periods(series: Series, call_ms: Mapping[str, float], left: float) -> dict[str, int]:
    """Return every how many rounds each variant is timed: all in each if there is time for it, else slow ones less.

    Args:
        series: what is timed.
        call_ms: variant -> milliseconds of a call.
        left: seconds.
    """
    calls = 2 if series.batch == 1 else 1
    every_round = dict.fromkeys(call_ms, 1)
    if not call_ms or series.rounds * calls * sum(call_ms.values()) / 1000 <= left:
        return every_round
    ordered = sorted(call_ms.values())
    typical = ordered[len(ordered) // 2]
    for longest in range(PERIOD_MAX, 1, -1):
        periods = {name: max(1, min(longest, int(ms / typical))) for name, ms in call_ms.items()}
        round_s = calls * sum(ms / periods[name] for name, ms in call_ms.items()) / 1000
        # Not if the slow variant's least number of samples would then take more rounds than there is time for.
        if left / round_s >= series.samples_min * max(periods.values()):
            return periods
    return every_round


def _warm_up(
    series: Series, pool: WorkerPool, names: Sequence[str], texts: Sequence[str], rng: random.Random
) -> dict[str, float]:
    """Return variant -> milliseconds of its fastest call."""
    start, best = time.monotonic(), dict[str, float]()
    for number in range(WARM_UP_MAX):
        samples = _time_round(series, pool, names, texts, number, rng, best)
        settled = all(sample.ms > STILL_FASTER * best.get(sample.variant, math.inf) for sample in samples)
        best |= {sample.variant: min(sample.ms, best.get(sample.variant, math.inf)) for sample in samples}
        if (settled and number + 1 >= WARM_UP_MIN) or time.monotonic() - start > WARM_UP_PART * series.seconds:
            break
    return best


def _time_round(
    series: Series,
    pool: WorkerPool,
    names: Sequence[str],
    texts: Sequence[str],
    number: int,
    rng: random.Random,
    call_ms: Mapping[str, float],
) -> list[Sample]:
    """Return one sample of each variant that answered."""
    first = number * series.batch
    request = EncodeRequest([texts[index % len(texts)] for index in range(first, first + series.batch)])
    pause = series.batch == 1 and number % PAUSE_EVERY == 0
    samples = []
    for name in rng.sample(names, len(names)):
        short = series.twice or call_ms.get(name, 0.0) < LONG_MS
        calls = 2 if pause or (series.batch == 1 and short) else 1
        if pause or not STOPS_IDLE:
            time.sleep(series.gap_s)
        times = [ms for _ in range(calls) if (ms := pool.ask(name, request)) is not None]
        if len(times) == calls:
            after_pause_ms = times[0] if pause else None
            samples.append(Sample(name, series.tokens, series.batch, number, times[-1], after_pause_ms))
    return samples
