"""The gate stage: evidence in, verdict out."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from embed_foundry import manifest

from stages.common.config import Gate, Limits, Target
from stages.common.contract.output import stage_output
from stages.common.records.catalog import load_catalogued_variants, require_measured
from stages.gate import tables
from stages.gate.facts import Measured, gather
from stages.gate.judge import INCONCLUSIVE, judge

# Parts of a variant's facts that may have failed.
PARTS = ("record", "parity", "quality", "latency")
# A waiting baseline looks slow, and everything else then looks fast: such a run must not pass a speed-up.
CROWDED = (
    "latency: other processes took the CPUs meanwhile, so speed-ups were not judged. "
    "Next, on a quiet machine: dvc repro --force --single-item latency, then dvc repro"
)


def run(
    target: Target, config: Gate, baseline: str, catalog: Path, variants: Path, quality: Path, latency: Path, out: Path
) -> dict[str, Any]:
    """Judge every variant and return the content of verdict.json.

    Args:
        target: the limits, and which variants may ship.
        config: how sure a verdict must be.
        baseline: the variant that retention is relative to.
        catalog: the catalog folder.
        variants: the folder of variant folders.
        quality: the quality stage's folder.
        latency: the latency stage's folder.
        out: the gate folder.

    Raises:
        IntegrityError: an input differs from its manifest, or a variant was measured in other bytes.
    """
    folders = load_catalogued_variants(catalog, variants)
    inputs = {"catalog": catalog, "quality": quality, "latency": latency}
    parameters = {
        "target": target.model_dump(mode="json"),
        "baseline": baseline,
        "gate": config.model_dump(mode="json"),
    }
    for evidence in (quality, latency):
        require_measured(evidence, folders)
    with stage_output(out, stage="gate", parameters=parameters, inputs=inputs) as work:
        facts = gather(config, baseline, folders, Measured.load(quality, latency, folders))
        verdict = decide(target, baseline, facts) | {"catalog": manifest.read(catalog).digest}
        (work / "verdict.json").write_bytes(manifest.canonical(verdict))
        (work / "metrics.json").write_bytes(manifest.canonical(tables.metrics(verdict, facts)))
        tables.write_quality(work / "quality.csv", facts)
        tables.write_latency(work / "latency.csv", facts)
    return verdict


def decide(target: Target, baseline: str, facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return verdicts from facts alone: no files, no clock, no randomness.

    A variant passes if each of its limits is met by a finite, measured value (a ratio of scores: by its lower bound)
    and nothing about it failed. It is inconclusive if it misses limits only for want of samples. The release passes if
    at least `target.required` of the candidates do; a candidate that was not built does not count.
    """
    judged: dict[str, dict[str, Any]] = {}
    for name, fact in facts.items():
        limits = _within(target, target.limits.get(name, target.limits.get("default", Limits())))
        errors = [f"{part}: {fact[part]['error']}" for part in PARTS if "error" in fact.get(part, {})]
        if fact.get("crowded") and limits.speedup_min:
            errors.append(CROWDED)
        checks = list(judge(limits, fact, facts[baseline]))
        missed = [check for check in checks if not check.passes]
        undecided = not errors and all(check.verdict == INCONCLUSIVE for check in missed)
        judged[name] = {
            "space_id": fact["space_id"],
            "alone": fact["alone"],
            "candidate": name in target.candidates,
            "passes": not errors and not missed,
            "inconclusive": bool(missed) and undecided,
            "reasons": errors + [check.words() for check in missed],
            "checks": [asdict(check) | {"passes": check.passes} for check in checks],
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


def _within(target: Target, limits: Limits) -> Limits:
    """Return the limits with the target's memory as the largest peak: what exceeds it, the host's kernel ends."""
    asked = limits.peak_rss_mb_max
    memory = float(target.resources.memory_mb)
    return limits.model_copy(update={"peak_rss_mb_max": memory if asked is None else min(asked, memory)})
