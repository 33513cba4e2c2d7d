"""The gate stage: evidence in, verdict out."""

from pathlib import Path

from embed_foundry import manifest

from stages.common.config import Gate, Target
from stages.common.contract.output import stage_output
from stages.common.records.catalog import load_catalogued_variants, require_measured
from stages.common.records.evidence import Evidence
from stages.common.records.verdict import Verdict
from stages.gate import tables
from stages.gate.assess import assess
from stages.gate.decision import decide
from stages.gate.elsewhere import find_differences


def run(
    target: Target, config: Gate, baseline: str, catalog: Path, variants: Path, quality: Path, latency: Path, out: Path
) -> Verdict:
    """Judge every variant and return the verdict.

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
        IntegrityError: an input differs from its manifest or is not what its stage writes, a variant was measured in
            other bytes, or two variants on other samples.
    """
    folders = load_catalogued_variants(catalog, variants)
    inputs = {"catalog": catalog, "quality": quality, "latency": latency}
    parameters = {
        "target": target.model_dump(mode="json"),
        "baseline": baseline,
        "gate": config.model_dump(mode="json"),
    }
    for folder in (quality, latency):
        require_measured(folder, folders)
    with stage_output(out, stage="gate", parameters=parameters, inputs=inputs) as work:
        evidence = Evidence.load(folders, quality, latency)
        assessments = assess(config, baseline, evidence)
        uncertified = list(find_differences(target.host, evidence.latency))
        verdict = decide(target, baseline, manifest.read(catalog).digest, assessments, uncertified)
        (work / Verdict.FILE).write_bytes(verdict.dump())
        (work / "metrics.json").write_bytes(manifest.canonical(tables.collect_metrics(verdict, assessments)))
        tables.write_quality(work / "quality.csv", assessments)
        tables.write_latency(work / "latency.csv", assessments)
    return verdict
