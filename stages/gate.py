"""gate: scores, latency and parity against the target's limits -> a verdict per variant, and one for the release.

In: catalog/, variants/, quality/, latency/. Out: gate/ (verdict.json, metrics.json, and two tables for `dvc plots`),
small and kept in git so that a verdict and its reasons can be read without any cache.
Fails: 3 an input differs from its manifest. A missed limit is a verdict, not a failure: `bundle` refuses (exit 4).
"""

import csv
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from embed_foundry import Variant, manifest

from stages.common import catalog as catalogs
from stages.common import config
from stages.common.artifact import folder_size, publish, run_stage
from stages.common.config import Limits, Target

MB = 1_000_000
# A waiting baseline looks slow, and everything else then looks fast: such a run must not pass a speed-up.
CROWDED = (
    "latency: other processes took the CPUs meanwhile, so speed-ups were not judged. "
    "Next, on a quiet machine: dvc repro --force --single-item latency, then dvc repro"
)
# Limits of each variant that carry one number each: name in Limits -> where the value stands in the facts.
SINGLE = {
    "size_mb_max": ("size_mb",),
    "cosine_mean_min": ("parity", "cosine_mean"),
    "cosine_min_min": ("parity", "cosine_min"),
    "peak_rss_mb_max": ("latency", "peak_rss_mb"),
    "cold_start_s_max": ("latency", "cold_start_s", "median"),
}


@dataclass(frozen=True)
class Check:
    """One limit, judged.

    Attributes:
        limit: the limit's name in the target.
        on: what it was judged on, e.g. a task or a length; "" where the limit is one number.
        bound: the limit's value.
        value: the measured value; None if it is missing, which fails.
        margin: how far inside (positive) or outside (negative) of the bound the value lies, in the value's unit.
        passes: whether the limit is met.
    """

    limit: str
    on: str
    bound: float
    value: float | None
    margin: float | None
    passes: bool


def run(
    target: Target, baseline: str, catalog: Path, variants: Path, quality: Path, latency: Path, out: Path
) -> dict[str, Any]:
    """Judge every variant and return the content of verdict.json.

    Args:
        target: the limits, and which variants may ship.
        baseline: the variant that retention is relative to.
        catalog: the catalog folder.
        variants: the folder of variant folders.
        quality: the quality stage's folder.
        latency: the latency stage's folder.
        out: the gate folder.

    Raises:
        IntegrityError: an input differs from its manifest, or a variant was measured in other bytes.
    """
    folders = catalogs.listed(catalog, variants)
    inputs = {"catalog": catalog, "quality": quality, "latency": latency}
    parameters = {"target": target.model_dump(mode="json"), "baseline": baseline}
    for evidence in (quality, latency):
        catalogs.require_measured(evidence, folders)
    with publish(out, stage="gate", parameters=parameters, inputs=inputs) as work:
        scores, times = _json(quality / "scores.json"), _json(latency / "latency.json")
        facts = {name: gather(folder, scores, times) for name, folder in folders.items()}
        verdict = decide(target, baseline, facts) | {"catalog": manifest.read(catalog)["digest"]}
        (work / "verdict.json").write_bytes(manifest.canonical(verdict))
        (work / "metrics.json").write_bytes(manifest.canonical(metrics(verdict, facts)))
        _table(work / "quality.csv", ("variant", "task", "dimensions", "score"), _quality_rows(facts))
        _table(work / "latency.csv", ("variant", "tokens", "speedup", "median_ms"), _latency_rows(facts))
    return verdict


def gather(folder: Path, scores: Mapping[str, Any], times: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of one variant: size_mb, parity, quality (by dimension and task), latency, or errors."""
    variant = Variant.load(folder)
    return {
        "size_mb": round(folder_size(folder) / MB, 3),
        "dimensions": variant.dimensions,
        "space_id": variant.space_id,
        "parity": variant.parity,
        "quality": scores.get(variant.name, {"error": "not measured"}),
        "latency": times["variants"].get(variant.name, {"error": "not measured"}),
        "crowded": bool(times.get("host", {}).get("crowded")),
    }


def decide(target: Target, baseline: str, facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return verdicts from facts alone: no files, no clock, no randomness.

    A variant passes if each of its limits is met by a finite, measured value and nothing about it failed. The release
    passes if at least `target.required` of the candidates do; a candidate that was not built does not count.
    """
    judged: dict[str, dict[str, Any]] = {}
    for name, fact in facts.items():
        limits = target.limits.get(name, target.limits.get("default", Limits()))
        errors = [
            f"{part}: {fact[part]['error']}" for part in ("parity", "quality", "latency") if "error" in fact[part]
        ]
        if fact.get("crowded") and limits.speedup_min:
            errors.append(CROWDED)
        checks = list(judge(limits, fact, facts[baseline]))
        missed = [_words(check) for check in checks if not check.passes]
        judged[name] = {
            "candidate": name in target.candidates,
            "passes": not errors and not missed,
            "reasons": errors + missed,
            "checks": [asdict(check) for check in checks],
        }
    passing = [name for name in target.candidates if name in judged and judged[name]["passes"]]
    passes = len(passing) >= target.required
    reason = f"{len(passing)} of the candidates {', '.join(target.candidates)} pass, {target.required} must"
    return {
        "target": target.name,
        "baseline": baseline,
        "variants": judged,
        "release": {"passes": passes, "passing": passing, "reason": reason},
    }


def judge(limits: Limits, fact: Mapping[str, Any], base: Mapping[str, Any]) -> Iterator[Check]:
    """Yield one Check for each limit that is set; a value that is missing or not finite fails."""
    for name, path in SINGLE.items():
        bound = getattr(limits, name)
        if bound is not None:
            yield check(name, "", bound, _at(fact, *path))
    mine, theirs = _full(fact), _full(base)
    for name, per_type in (("retention_min", limits.retention_min), ("score_min", limits.score_min)):
        for kind, bound in sorted(per_type.items()):
            tasks = sorted(task for task, score in theirs.items() if score.get("type") == kind)
            for task in tasks or [kind]:  # no task of that type: missing, so it fails
                value, reference = _at(mine, task, "main_score"), _at(theirs, task, "main_score")
                if name == "retention_min":
                    # A baseline at or below zero retains nothing that a ratio could tell.
                    value = value / reference if value is not None and reference and reference > 0 else None
                yield check(name, task, bound, value)
    for tokens, bound in sorted(limits.speedup_min.items()):
        measured = None if fact.get("crowded") else _at(fact, "latency", "lengths", str(tokens), "speedup", "median")
        yield check("speedup_min", f"{tokens} tokens", bound, measured)


def check(limit: str, on: str, bound: float, value: float | None) -> Check:
    """Judge one value, in the positive form: only a finite value on the right side passes."""
    if value is None or not math.isfinite(value):
        return Check(limit, on, bound, None, None, passes=False)
    margin = bound - value if limit.endswith("_max") else value - bound
    return Check(limit, on, bound, round(value, 6), round(margin, 6), passes=margin >= 0)


def metrics(verdict: Mapping[str, Any], facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the numbers that `dvc metrics diff` compares: by variant, then by what was measured."""
    rows: dict[str, Any] = {}
    for name, fact in facts.items():
        latency = fact["latency"]
        row: dict[str, Any] = {
            "size_mb": fact["size_mb"],
            "limits_missed": len(verdict["variants"][name]["reasons"]),
            "cosine_min": _at(fact, "parity", "cosine_min"),
            "quality": {f"{task}@{dimension}": round(score, 6) for dimension, task, score in _scores(fact)},
            "speedup": {tokens: speedup for tokens, speedup, _ in _times(fact) if speedup is not None},
            "median_ms": {tokens: median for tokens, _, median in _times(fact) if median is not None},
            "peak_rss_mb": _at(latency, "peak_rss_mb"),
            "cold_start_s": _at(latency, "cold_start_s", "median"),
        }
        rows[name] = {key: value for key, value in row.items() if value not in (None, {})}
    return {"variants_passing": len(verdict["release"]["passing"]), **rows}


def _words(check: Check) -> str:
    found = "not measured" if check.value is None else f"{check.value:g}"
    return f"{check.limit}{f' {check.on}' if check.on else ''}: {found}, limit {check.bound:g}"


def _full(fact: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the scores at the variant's full dimension, by task."""
    scores: Mapping[str, Any] = fact["quality"].get(str(fact["dimensions"]), {})
    return scores


def _scores(fact: Mapping[str, Any]) -> Iterator[tuple[str, str, float]]:
    """Yield dimension, task and score, where there is a score."""
    if "error" not in fact["quality"]:
        for dimension in sorted(fact["quality"], key=int, reverse=True):
            for task, score in sorted(fact["quality"][dimension].items()):
                if (value := _at(score, "main_score")) is not None:
                    yield dimension, task, value


def _times(fact: Mapping[str, Any]) -> Iterator[tuple[str, float | None, float | None]]:
    """Yield tokens, median speed-up and median milliseconds, by length."""
    for tokens, timed in sorted(fact["latency"].get("lengths", {}).items(), key=lambda item: int(item[0])):
        yield tokens, _at(timed, "speedup", "median"), _at(timed, "median_ms")


def _at(value: Any, *path: str) -> float | None:  # noqa: ANN401 - nested JSON
    """Return the number at a path; None if it is missing, no number, or not finite."""
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if number else None


def _quality_rows(facts: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[Any, ...]]:
    for name, fact in facts.items():
        for dimension, task, score in _scores(fact):
            yield name, task, dimension, round(score, 6)


def _latency_rows(facts: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[Any, ...]]:
    for name, fact in facts.items():
        for tokens, speedup, median in _times(fact):
            yield name, tokens, speedup, median


def _table(path: Path, header: tuple[str, ...], rows: Iterator[tuple[Any, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _json(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def _main() -> None:
    params = config.load()
    folders = [Path(name) for name in ("catalog", "variants", "quality", "latency", "gate")]
    run(params.target, params.baseline, *folders)


if __name__ == "__main__":
    run_stage(_main)
