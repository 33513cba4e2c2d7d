"""Limits against facts: one Check each, in words that say what would decide it."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from stages.common.config import Limits

PASS, FAIL, INCONCLUSIVE = "pass", "fail", "inconclusive"
# Limits of each variant that carry one number each: name in Limits -> where the value stands in the facts.
SINGLE = {
    "size_mb_max": ("size_mb",),
    "cosine_mean_min": ("parity", "cosine_mean"),
    "cosine_min_min": ("parity", "cosine_min"),
    "batch_shift_max": ("parity", "batch_shift_max"),
    "median_cosine_shift_max": ("parity", "median_cosine_shift"),
    "peak_rss_mb_max": ("latency", "peak_rss_mb"),
    "cold_start_s_max": ("latency", "cold_start_s", "median"),
}


# Matryoshka cuts cost these tasks most (STS hardly moves): judged at every dimension, not at the full one only.
AT_EVERY_DIMENSION = "Retrieval"
# More samples than so many times those at hand are no advice.
HOPELESS = 1000
NO_TASK = "the suite has no task of this type; add one, or take the limit out of the target"
NO_SAMPLES = "quality has no samples of it that pair up with the baseline's"
# What only the target's own conditions tell.
TIMED = ("speedup_min", "batch_speedup_min", "cold_start_s_max")


@dataclass(frozen=True)
class Check:
    """One limit, judged.

    Attributes:
        limit: the limit's name in the target.
        on: what it was judged on, e.g. a task or a length; "" where the limit is one number.
        bound: the limit's value.
        value: the measured value, or the lower bound of a ratio; None if it is missing, which fails.
        margin: how far inside (positive) or outside (negative) of the bound the value lies, in the value's unit.
        verdict: "pass", "fail", or "inconclusive": the limit lies between the lower and the upper bound.
        estimate: the ratio itself, where value is a bound of it.
        high: its upper bound.
        samples: on how many samples, or rounds, it was measured.
        needed: about how many would decide an inconclusive one, if the estimate stays; None if no reachable number.
        note: why it is not met, where figures alone do not say.
    """

    limit: str
    on: str
    bound: float
    value: float | None
    margin: float | None
    verdict: str
    estimate: float | None = None
    high: float | None = None
    samples: int | None = None
    needed: int | None = None
    note: str = ""

    @property
    def passes(self) -> bool:
        """Whether the limit is met; an inconclusive one is not."""
        return self.verdict == PASS

    def words(self) -> str:
        """Say what was found, and for an inconclusive check what would decide it."""
        found = "not measured" if self.value is None else f"{self.value:g}"
        if self.estimate is not None:
            found = f"{self.estimate:g}, between {self.value:g} and {self.high:g} by {self.samples} samples"
        text = f"{self.limit}{f' {self.on}' if self.on else ''}: {found}, limit {self.bound:g}"
        if self.verdict != INCONCLUSIVE:
            return f"{text}: {self.note}" if self.note else text
        if self.note:
            return f"{text}: inconclusive, {self.note}"
        return f"{text}: inconclusive, " + (
            f"about {self.needed} samples would decide" if self.needed else "the estimate lies on the limit"
        )


def judge(limits: Limits, fact: Mapping[str, Any], base: Mapping[str, Any]) -> Iterator[Check]:
    """Yield one Check for each limit that is set; a value that is missing or not finite fails.

    Times taken without the target's CPU quota pass nothing: where they could not be enforced, they decide nothing.
    """
    for found in _judge(limits, fact, base):
        if fact.get("unenforced") and found.limit in TIMED and found.value is not None:
            yield replace(found, verdict=INCONCLUSIVE, needed=None, note=fact["unenforced"])
        else:
            yield found


def _judge(limits: Limits, fact: Mapping[str, Any], base: Mapping[str, Any]) -> Iterator[Check]:
    for name, path in SINGLE.items():
        bound = getattr(limits, name)
        if bound is not None:
            yield check(name, "", bound, at(fact, *path))
    mine, theirs = full(fact), full(base)
    for kind, bound in sorted(limits.retention_min.items()):
        for task in _tasks(theirs, kind):
            dimensions = [fact["dimensions"]]
            if kind == AT_EVERY_DIMENSION:
                scored = {int(cut) for cut, scores in fact["quality"].items() if cut != "error" and task in scores}
                scored |= {int(cut) for cut in fact["paired"]}
                dimensions += sorted((cut for cut in scored if cut < fact["dimensions"]), reverse=True)
            for dimension in dimensions:
                on = task if dimension == fact["dimensions"] else f"{task}@{dimension}"
                bounds = fact["paired"].get(str(dimension), {}).get(task, {})
                found = bounded("retention_min", on, bound, bounds)
                yield found if bounds else replace(found, note=NO_SAMPLES)
        if not _tasks(theirs, kind):
            yield Check("retention_min", kind, bound, None, None, FAIL, note=NO_TASK)
    for limit, per_type in (("lead_min", limits.lead_min), ("score_min", limits.score_min)):
        for kind, bound in sorted(per_type.items()):
            for task in _tasks(theirs, kind):
                value = at(mine, task, "main_score")
                if limit == "lead_min":
                    value = lead(value, at(theirs, task, "main_score"), at(fact, "floor", task))
                yield check(limit, task, bound, value)
            if not _tasks(theirs, kind):
                yield Check(limit, kind, bound, None, None, FAIL, note=NO_TASK)
    if limits.batch_speedup_min is not None:
        batch = {} if fact.get("crowded") else fact["latency"].get("batch", {})
        on = f"{batch.get('size')} x {batch.get('tokens')} tokens" if batch else "batch"
        yield bounded("batch_speedup_min", on, limits.batch_speedup_min, ratio(batch))
    for tokens, bound in sorted(limits.speedup_min.items()):
        timed = {} if fact.get("crowded") else fact["latency"].get("lengths", {}).get(str(tokens), {})
        yield bounded("speedup_min", f"{tokens} tokens", bound, ratio(timed))


def _tasks(scores: Mapping[str, Any], kind: str) -> list[str]:
    return sorted(task for task, score in scores.items() if score.get("type") == kind)


def check(limit: str, on: str, bound: float, value: float | None) -> Check:
    """Judge one value, in the positive form: only a finite value on the right side passes."""
    if value is None or not math.isfinite(value):
        return Check(limit, on, bound, None, None, FAIL)
    margin = bound - value if limit.endswith("_max") else value - bound
    return Check(limit, on, bound, round(value, 6), round(margin, 6), PASS if margin >= 0 else FAIL)


def bounded(limit: str, on: str, bound: float, known: Mapping[str, Any]) -> Check:
    """Judge a ratio to the baseline by its bounds: at least the limit, below it, or not to be told yet.

    Args:
        limit: the limit's name.
        on: the task (and the dimension if it is not the full one), or the length.
        bound: the least ratio that may ship.
        known: estimate, low, high, samples; anything missing or not finite fails.
    """
    estimate, low, high, samples = (at(known, name) for name in ("estimate", "low", "high", "samples"))
    if estimate is None or low is None or high is None or not samples:
        return Check(limit, on, bound, None, None, FAIL)
    verdict = PASS if low >= bound else FAIL if high < bound else INCONCLUSIVE
    # The interval shrinks with the root of n: it ends where it clears the limit.
    gap, reach = abs(estimate - bound), max(estimate - low, high - estimate)
    needed = math.ceil(samples * (reach / gap) ** 2) if gap * math.sqrt(HOPELESS) > reach else None
    return Check(
        limit,
        on,
        bound,
        low,
        round(low - bound, 6),
        verdict,
        estimate,
        high,
        int(samples),
        needed if verdict == INCONCLUSIVE else None,
    )


def ratio(timed: Mapping[str, Any]) -> dict[str, Any]:
    """Return a length's speed-up as `bounded` takes it."""
    names = {"estimate": "median", "low": "low", "high": "high"}
    return {key: timed.get("speedup", {}).get(name) for key, name in names.items()} | {"samples": timed.get("n")}


def lead(score: float | None, reference: float | None, floor: float | None) -> float | None:
    """Return how much of the baseline's lead over random token vectors a score keeps; None if there is no lead."""
    if score is None or reference is None or floor is None or reference <= floor:
        return None
    return (score - floor) / (reference - floor)


def full(fact: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the scores at the variant's full dimension, by task."""
    scores: Mapping[str, Any] = fact["quality"].get(str(fact["dimensions"]), {})
    return scores


def at(value: Any, *path: str) -> float | None:  # noqa: ANN401 - nested JSON
    """Return the number at a path; None if it is missing, no number, or not finite."""
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if number else None
