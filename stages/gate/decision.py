"""Verdicts from assessments alone."""

from collections.abc import Mapping, Sequence

from stages.common.config import Limits, Target
from stages.common.limits import CROWDED, Assessment
from stages.common.records.verdict import ReleaseVerdict, VariantVerdict, Verdict
from stages.gate.judge import describe, judge

CROWDED_REASON = (
    "latency: other processes took the CPUs meanwhile, so speed-ups were not judged. "
    "Next, on a quiet machine: dvc repro --force --single-item latency, then dvc repro"
)


def decide(
    target: Target,
    baseline: str,
    catalog: str,
    assessments: Mapping[str, Assessment],
    uncertified: Sequence[str] = (),
) -> Verdict:
    """Return the verdict: no files, no clock, no randomness.

    A variant passes if each of its limits is met by a finite, measured value (a ratio: by its lower bound) and nothing
    about it failed. It is inconclusive if it misses limits only for want of samples. The release passes if at least
    `target.required` of the candidates do; a candidate that was not built does not count.

    Args:
        target: the limits, and which variants may ship.
        baseline: the variant that ratios are relative to.
        catalog: digest of the catalog that is judged.
        assessments: variant -> what is known of it.
        uncertified: how the measuring machine differs from the target's kind of host.
    """
    variants = {
        name: _judge_variant(target, name, assessment, assessments[baseline])
        for name, assessment in assessments.items()
    }
    return Verdict(
        target=target.name,
        baseline=baseline,
        catalog=catalog,
        uncertified=list(uncertified),
        variants=variants,
        release=_judge_release(target, variants),
    )


def _judge_variant(target: Target, name: str, variant: Assessment, baseline: Assessment) -> VariantVerdict:
    limits = _limit_memory(target, target.limits.get(name, target.limits.get("default", Limits())))
    checks = list(judge(limits, variant, baseline))
    errors = [f"{part}: {why}" for part, why in variant.errors.items()]
    if any(check.note == CROWDED for check in checks):
        errors.append(CROWDED_REASON)
    missed = [check for check in checks if not check.passes]
    undecided = not errors and all(check.verdict == "inconclusive" for check in missed)
    return VariantVerdict(
        space_id=variant.space_id,
        alone=variant.alone,
        candidate=name in target.candidates,
        passes=not errors and not missed,
        inconclusive=bool(missed) and undecided,
        reasons=[*errors, *map(describe, missed)],
        checks=checks,
    )


def _judge_release(target: Target, variants: Mapping[str, VariantVerdict]) -> ReleaseVerdict:
    passing = [name for name in target.candidates if name in variants and variants[name].passes]
    others = [name for name in target.candidates if name not in passing]
    passes = len(passing) >= target.required
    count = "1 candidate passes" if len(passing) == 1 else f"{len(passing)} candidates pass"
    reason = f"{count} ({target.required} required)" + (f": {', '.join(passing)}" if passing else "")
    if not passes:
        reason += f"; not passing: {', '.join(others)}"
    return ReleaseVerdict(passes=passes, passing=passing, reason=reason)


def _limit_memory(target: Target, limits: Limits) -> Limits:
    """Return the limits with the target's memory as the largest peak: the host's kernel ends what exceeds it."""
    peak, memory = limits.peak_rss_mb_max, float(target.resources.memory_mb)
    return limits.model_copy(update={"peak_rss_mb_max": memory if peak is None else min(peak, memory)})
