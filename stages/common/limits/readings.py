"""The figures that limits are held against: typed access to a variant's evidence, and a reason where there is none."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from stages.common.limits.assessment import Assessment, RatioBounds
from stages.common.records.base import Failure
from stages.common.records.latency import BatchLatency, LengthLatency, VariantLatency
from stages.common.records.parity import Parity

# Truncated vectors cost these tasks most (STS hardly moves): judged at every dimension, not at the full one only.
AT_EVERY_DIMENSION = "Retrieval"
CROWDED = "not judged, other processes took the CPUs while latency was measured"
NO_TASK = "not measured, the suite has no task of this type; add one, or remove the limit from the target"


@dataclass(frozen=True)
class Reading:
    """What a limit is held against, once.

    Attributes:
        on: what was measured, e.g. a task or a length; "" where the limit is one number.
        value: the measured value, or a ratio with its bounds; None if there is none.
        missing: why there is none.
    """

    on: str
    value: float | RatioBounds | None
    missing: str = "not measured"


# (the variant, the baseline, the key of the limit's own mapping: a task type, tokens, or "") -> readings.
Reader = Callable[[Assessment, Assessment, str], Iterable[Reading]]


def read_size(variant: Assessment, baseline: Assessment, key: str) -> Iterator[Reading]:
    """Yield the size of all files, in 10^6 bytes."""
    yield Reading("", variant.evidence.size_mb)


def read_size_ratio(variant: Assessment, baseline: Assessment, key: str) -> Iterator[Reading]:
    """Yield the size of all files over the size of the baseline's."""
    size = baseline.evidence.size_mb
    yield Reading("", variant.evidence.size_mb / size if size else None, "not measured, the baseline has no files")


def read_rss_over_baseline(variant: Assessment, baseline: Assessment, key: str) -> Iterator[Reading]:
    """Yield the peak memory of a process less the size of the baseline's files, in 10^6 bytes.

    Not a ratio of two processes: torch's own memory depends on what is installed. Nor less the variant's own files:
    then a smaller file would look worse.
    """
    latency = variant.evidence.latency
    if isinstance(latency, Failure):
        yield Reading("", None, "not measured, latency failed")
    else:
        yield Reading("", latency.peak_rss_mb - baseline.evidence.size_mb)


def read_parity(figure: Callable[[Parity], float | None]) -> Reader:
    """Return the reader of one parity figure."""

    def read(variant: Assessment, baseline: Assessment, key: str) -> Iterator[Reading]:
        parity = variant.evidence.parity
        if isinstance(parity, Failure):
            yield Reading("", None, "not measured, parity failed")
        else:
            yield Reading("", figure(parity), "not measured, variant.json has no such parity figure")

    return read


def read_latency(figure: Callable[[VariantLatency], float]) -> Reader:
    """Return the reader of one figure of a variant's process."""

    def read(variant: Assessment, baseline: Assessment, key: str) -> Iterator[Reading]:
        latency = variant.evidence.latency
        yield Reading("", None if isinstance(latency, Failure) else figure(latency), "not measured, latency failed")

    return read


def read_retention(variant: Assessment, baseline: Assessment, task_type: str) -> Iterator[Reading]:
    """Yield the ratio of scores of every task of a type: at the full dimension; for Retrieval, at every shorter one.

    Those are the dimensions that the variant declares, and all that it or the baseline was scored at.
    """
    full = variant.evidence.variant.dimensions
    lengths = {*variant.evidence.shorter, *baseline.evidence.dimensions}
    shorter = sorted((dimensions for dimensions in lengths if dimensions < full), reverse=True)
    for task in _tasks(baseline, task_type):
        for dimensions in [full, *(shorter if task_type == AT_EVERY_DIMENSION else [])]:
            bounds = variant.retention.get(dimensions, {}).get(task)
            missing = "" if bounds else _why_no_bounds(variant, baseline, task, dimensions)
            yield Reading(task if dimensions == full else f"{task}@{dimensions}", bounds, missing)
    yield from _without_tasks(baseline, task_type)


def read_lead(variant: Assessment, baseline: Assessment, task_type: str) -> Iterator[Reading]:
    """Yield which part of the baseline's lead over random token vectors is kept, by task."""
    for task in _tasks(baseline, task_type):
        score, reference = variant.evidence.score(task), baseline.evidence.score(task)
        floor = variant.floor.get(task)
        if score is None or reference is None:
            whose = "it" if score is None else "the baseline"
            yield Reading(task, None, f"not measured, {whose} has no score")
        elif floor is None:
            yield Reading(task, None, "not measured, floor.json has no score of random token vectors")
        elif not reference.main_score > floor:
            yield Reading(task, None, "not measured, the baseline does not score above random token vectors")
        else:
            yield Reading(task, (score.main_score - floor) / (reference.main_score - floor))
    yield from _without_tasks(baseline, task_type)


def read_score(variant: Assessment, baseline: Assessment, task_type: str) -> Iterator[Reading]:
    """Yield the main score of every task of a type."""
    for task in _tasks(baseline, task_type):
        score = variant.evidence.score(task)
        yield Reading(task, score.main_score if score else None, "not measured, it has no score")
    yield from _without_tasks(baseline, task_type)


def read_batch_speedup(variant: Assessment, baseline: Assessment, key: str) -> Iterator[Reading]:
    """Yield the speed-up of one call with many texts."""
    latency = variant.evidence.latency
    if isinstance(latency, Failure):
        yield Reading("batch", None, "not measured, latency failed")
    else:
        batch = latency.batch
        yield _read_speedup(variant, f"{batch.size} x {batch.tokens} tokens", batch)


def read_speedup(variant: Assessment, baseline: Assessment, tokens: str) -> Iterator[Reading]:
    """Yield the speed-up of one text of so many tokens."""
    latency, on = variant.evidence.latency, f"{tokens} tokens"
    if isinstance(latency, Failure):
        yield Reading(on, None, "not measured, latency failed")
    elif length := latency.lengths.get(int(tokens)):
        yield _read_speedup(variant, on, length)
    else:
        timed = ", ".join(map(str, sorted(latency.lengths))) or "no"
        yield Reading(on, None, f"not measured, latency timed {timed} tokens")


def _read_speedup(variant: Assessment, on: str, timing: LengthLatency | BatchLatency) -> Reading:
    """A waiting baseline looks slow, and everything else then looks fast: a crowded run must not pass a speed-up."""
    if variant.crowded:
        return Reading(on, None, CROWDED)
    speedup = timing.speedup
    return Reading(on, RatioBounds(speedup.median, speedup.low, speedup.high, timing.n))


def _tasks(baseline: Assessment, task_type: str) -> list[str]:
    """Return the tasks of a type that anything was measured on: one that the baseline lacks is missed, not left out.

    None if quality of the baseline failed as a whole: `_without_tasks` says so once.
    """
    if "quality" in baseline.evidence.errors:
        return []
    return sorted(task for task, of_type in baseline.tasks.items() if of_type == task_type)


def _without_tasks(baseline: Assessment, task_type: str) -> Iterator[Reading]:
    """Yield a reading without a value if nothing of a type was measured: a limit that judges nothing is not met."""
    if not _tasks(baseline, task_type):
        failed = "quality" in baseline.evidence.errors
        yield Reading(task_type, None, "not measured, quality of the baseline failed" if failed else NO_TASK)


def _why_no_bounds(variant: Assessment, baseline: Assessment, task: str, dimensions: int) -> str:
    longest = baseline.evidence.variant.dimensions
    compared = longest if dimensions == variant.evidence.variant.dimensions else dimensions
    score, reference = variant.evidence.score(task, dimensions), baseline.evidence.score(task, compared)
    if "quality" in variant.evidence.errors:
        return "not measured, quality failed"
    if score is None:
        return f"not measured, it has no score at {dimensions} dimensions"
    if reference is None:
        return f"not measured, the baseline has no score at {compared} dimensions"
    if not reference.main_score > 0:
        return "not measured, the baseline's score is not above zero"
    return f"not measured, quality has no samples of it at {dimensions} dimensions that pair up with the baseline's"
