"""The gate's figures as `dvc metrics` and `dvc plots` take them."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from stages.common.contract.tables import write_csv
from stages.common.limits import Assessment
from stages.common.records.base import Failure
from stages.common.records.verdict import Verdict


def collect_metrics(verdict: Verdict, assessments: Mapping[str, Assessment]) -> dict[str, object]:
    """Return the numbers that `dvc metrics diff` compares: by variant, then by what was measured."""
    metrics: dict[str, object] = {"variants_passing": len(verdict.release.passing)}
    for name, assessment in assessments.items():
        evidence = assessment.evidence
        parity, latency = evidence.parity, evidence.latency
        row = {
            "size_mb": evidence.size_mb,
            "limits_missed": len(verdict.variants[name].reasons),
            "cosine_min": None if isinstance(parity, Failure) else _finite(parity.cosine_min),
            "quality": {f"{task}@{dimensions}": round(score, 6) for dimensions, task, score in _scores(assessment)},
            "speedup": {str(tokens): speedup for tokens, speedup, _ in _times(assessment) if speedup is not None},
            "median_ms": {str(tokens): median for tokens, _, median in _times(assessment) if median is not None},
            "peak_rss_mb": None if isinstance(latency, Failure) else _finite(latency.peak_rss_mb),
            "cold_start_s": None if isinstance(latency, Failure) else _finite(latency.cold_start_s.median),
        }
        metrics[name] = {key: value for key, value in row.items() if value not in (None, {})}
    return metrics


def write_quality(path: Path, assessments: Mapping[str, Assessment]) -> None:
    """Write one row per variant, task and dimension: its score, and the bounds of its ratio to the baseline's."""
    rows: list[tuple[object, ...]] = []
    for name, assessment in assessments.items():
        for dimensions, task, score in _scores(assessment):
            ratio = assessment.retention.get(dimensions, {}).get(task)
            bounds = (ratio.estimate, ratio.low, ratio.high) if ratio else (None, None, None)
            rows.append((name, task, dimensions, round(score, 6), *bounds))
    write_csv(path, ("variant", "task", "dimensions", "score", "retention", "low", "high"), rows)


def write_latency(path: Path, assessments: Mapping[str, Assessment]) -> None:
    """Write one row per variant and length: its median speed-up and milliseconds."""
    rows = [(name, *times) for name, assessment in assessments.items() for times in _times(assessment)]
    write_csv(path, ("variant", "tokens", "speedup", "median_ms"), rows)


def _scores(assessment: Assessment) -> Iterator[tuple[int, str, float]]:
    """Yield dimensions, task and score, for every finite score."""
    scores = assessment.evidence.scores
    if not isinstance(scores, Failure):
        for dimensions in assessment.evidence.dimensions:
            for task, score in sorted(scores.root[dimensions].items()):
                if (value := _finite(score.main_score)) is not None:
                    yield dimensions, task, value


def _times(assessment: Assessment) -> Iterator[tuple[int, float | None, float | None]]:
    """Yield tokens, median speed-up and median milliseconds, by length."""
    latency = assessment.evidence.latency
    if not isinstance(latency, Failure):
        for tokens, length in sorted(latency.lengths.items()):
            yield tokens, _finite(length.speedup.median), _finite(length.median_ms)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
