"""Taking samples: cold starts one after the other, then rounds in which every variant encodes the same texts once.

Only one worker computes at a time. Rounds interleave the variants so that whatever else the machine does falls on all
of them alike, and a variant's time is compared with the baseline's of the same round.

A single text is encoded twice in a row and the second call is the sample: the first one after a pause also pays for
waking threads and caches (seen: 7 to 18 ms where the second takes 5.5 to 6.5), which scatters more than variants
differ. It is kept beside the sample, since a service with little traffic pays it too.
"""

import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from stages.common.measure import statistics
from stages.latency.team import Team

# Warm-up ends when no variant still gets faster by more than this factor, after MIN rounds and at most MAX.
STILL_FASTER = 0.9
WARM_UP_MIN, WARM_UP_MAX = 3, 12

Step = Callable[[], object]


@dataclass(frozen=True)
class Sample:
    """One timed call.

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
        rounds: kept rounds, at least.
        gap_s: pause before each call; threads of the call before that still spin would slow it down.
        tight: further rounds follow until every ratio's interval is within this part of its median,
        extra_s: or until they took so many seconds.
    """

    tokens: int
    batch: int
    rounds: int
    gap_s: float
    tight: float = math.inf
    extra_s: float = 0.0


def cold_starts(team: Team, how_many: int, rng: random.Random, step: Step) -> dict[str, list[float]]:
    """Start every variant `how_many` times in a fresh process; return the seconds to its first vector, in order.

    The processes of the last round stay open. Files may come from the page cache: it is the process that is cold.

    Args:
        team: the workers.
        how_many: starts of each variant.
        rng: shuffles the variants of each round.
        step: called after each start.
    """
    seconds: dict[str, list[float]] = {name: [] for name in team.names}
    for left in reversed(range(how_many)):
        for name in rng.sample(team.names, len(team.names)):
            taken = team.start(name)
            if taken is not None:
                seconds[name].append(taken)
            if left:
                team.stop(name)
            step()
    return seconds


def take(
    series: Series, team: Team, names: Sequence[str], texts: Sequence[str], rng: random.Random, step: Step
) -> list[Sample]:
    """Warm up, then time each variant once a round, in a new order each round, on texts that rotate by round.

    Args:
        series: what is timed, how often.
        team: the workers, started.
        names: the variants to time.
        texts: texts of `series.tokens` tokens.
        rng: shuffles the variants of each round.
        step: called after each kept round.
    """
    _warm_up(series, team, names, texts, rng)
    samples = []
    for number in range(series.rounds):
        samples += _round(series, team, names, texts, number, rng)
        step()
    end, number = time.monotonic() + series.extra_s, series.rounds
    while time.monotonic() < end and not _tight(samples, team.baseline, series.tight):
        samples += _round(series, team, names, texts, number, rng)
        number += 1
    return samples


def _tight(samples: Sequence[Sample], baseline: str, part: float) -> bool:
    """Return whether every variant's median ratio to the baseline is known to within a part of itself.

    To stop on the interval's width, never on where it lies, keeps its coverage close to nominal (Chow & Robbins, On the
    Asymptotic Theory of Fixed-Width Sequential Confidence Intervals, Annals of Mathematical Statistics 36, 1965).
    """
    times: dict[str, dict[int, float]] = defaultdict(dict)
    for sample in samples:
        times[sample.variant][sample.round] = sample.ms
    for name, mine in times.items():
        if name == baseline:
            continue
        ratios = [times[baseline][number] / ms for number, ms in mine.items() if number in times[baseline]]
        low, high = statistics.median_interval(ratios)
        middle = median(ratios)
        if max(high - middle, middle - low) > part * middle:
            return False
    return True


def _warm_up(series: Series, team: Team, names: Sequence[str], texts: Sequence[str], rng: random.Random) -> None:
    best: dict[str, float] = {}
    for number in range(WARM_UP_MAX):
        times = {sample.variant: sample.ms for sample in _round(series, team, names, texts, number, rng)}
        settled = all(ms > STILL_FASTER * best.get(name, math.inf) for name, ms in times.items())
        if settled and number + 1 >= WARM_UP_MIN:
            return
        best = {name: min(ms, best.get(name, ms)) for name, ms in times.items()}


def _round(
    series: Series, team: Team, names: Sequence[str], texts: Sequence[str], number: int, rng: random.Random
) -> list[Sample]:
    """Return one sample of each variant that answered."""
    chosen = [texts[(number * series.batch + at) % len(texts)] for at in range(series.batch)]
    samples = []
    for name in rng.sample(names, len(names)):
        time.sleep(series.gap_s)
        answers = [team.ask(name, "encode", chosen) for _ in range(2 if series.batch == 1 else 1)]
        times = [float(answer["ms"]) for answer in answers if answer]
        if len(times) == len(answers):
            pause = times[0] if series.batch == 1 else None
            samples.append(Sample(name, series.tokens, series.batch, number, times[-1], pause))
    return samples
