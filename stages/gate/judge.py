"""Limits against assessments: one Check for each reading, and each Check in words."""

import math
from collections.abc import Iterator

from stages.common.config import Limits
from stages.common.limits import LIMITS, Assessment, LimitSpec, RatioBounds
from stages.common.records.verdict import Check, Outcome

# Never suggest more than so many times the samples at hand.
MOST_SUGGESTED = 1000


def judge(limits: Limits, variant: Assessment, baseline: Assessment) -> Iterator[Check]:
    """Yield one Check for each reading of each limit that is set; a value that is missing or not finite fails.

    Where the target's CPU quota could not be enforced, timed limits are inconclusive: other times tell nothing.
    """
    for spec in LIMITS:
        for key, bound in spec.bounds(limits):
            for reading in spec.read(variant, baseline, key):
                if isinstance(reading.value, RatioBounds):
                    check = check_ratio(spec, reading.on, bound, reading.value)
                else:
                    check = check_value(spec, reading.on, bound, reading.value, reading.missing)
                if spec.timed and variant.unenforced and check.value is not None:
                    check = check.model_copy(
                        update={"verdict": "inconclusive", "needed": None, "note": variant.unenforced}
                    )
                yield check


def check_value(spec: LimitSpec, on: str, bound: float, value: float | None, missing: str = "not measured") -> Check:
    """Judge one value, in the positive form: only a finite value on the right side passes.

    Args:
        spec: the limit.
        on: what was measured, e.g. a task.
        bound: the limit's value.
        value: the measured value; None if there is none.
        missing: why there is none.
    """
    if value is None or not math.isfinite(value):
        note = missing if value is None else "not measured, the figure is not finite"
        return Check(limit=spec.name, on=on, bound=bound, value=None, margin=None, verdict="fail", note=note)
    margin = bound - value if spec.direction == "max" else value - bound
    return Check(
        limit=spec.name,
        on=on,
        bound=bound,
        value=round(value, 6),
        margin=round(margin, 6),
        verdict="pass" if margin >= 0 else "fail",
    )


def check_ratio(spec: LimitSpec, on: str, bound: float, ratio: RatioBounds) -> Check:
    """Judge a ratio by its bounds: it passes from the lower one on, fails below the upper one, else is inconclusive.

    Args:
        spec: the limit.
        on: the task (and the dimension if it is not the full one), or the length.
        bound: the least ratio that may ship.
        ratio: what was measured; it fails if a part of it is not finite.
    """
    estimate, low, high, samples = ratio.estimate, ratio.low, ratio.high, ratio.samples
    if not all(map(math.isfinite, (estimate, low, high))) or not samples:
        return check_value(spec, on, bound, math.nan)
    verdict: Outcome = "pass" if low >= bound else "fail" if high < bound else "inconclusive"
    # The interval shrinks with the root of n: it ends where it clears the limit.
    gap, reach = abs(estimate - bound), max(estimate - low, high - estimate)
    needed = math.ceil(samples * (reach / gap) ** 2) if gap * math.sqrt(MOST_SUGGESTED) > reach else None
    return Check(
        limit=spec.name,
        on=on,
        bound=bound,
        value=low,
        margin=round(low - bound, 6),
        verdict=verdict,
        estimate=estimate,
        high=high,
        samples=samples,
        needed=needed if verdict == "inconclusive" else None,
    )


def describe(check: Check) -> str:
    """Return a check in words: the figure, the limit, and for an inconclusive one what would decide it."""
    name = f"{check.limit} {check.on}".strip()
    if check.value is None:
        return f"{name}, limit {check.bound:g}: {check.note or 'not measured'}"
    value = f"{check.value:g}"
    if check.estimate is not None:
        value = f"{check.estimate:g}, between {check.value:g} and {check.high:g} by {check.samples} samples"
    text = f"{name}: {value}, limit {check.bound:g}"
    if check.verdict != "inconclusive":
        return f"{text}: {check.note}" if check.note else text
    advice = f"about {check.needed} samples would decide" if check.needed else "the estimate lies on the limit"
    return f"{text}: inconclusive, {check.note or advice}"
