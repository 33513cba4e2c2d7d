"""The record of bundle.json, built from what was measured and judged."""

import json
from collections.abc import Mapping
from pathlib import Path

from embed_foundry import IntegrityError, Variant, manifest, selection
from embed_foundry.encoders.kinds import WEIGHT_BITS

from stages.bundle.inputs import BundleInputs, PassedRelease
from stages.common.config import Model, Target
from stages.common.config.variant import OnnxQuantize
from stages.common.records.base import Failure
from stages.common.records.bundle import (
    Build,
    BundleModel,
    BundleRecord,
    BundleSelection,
    BundleSources,
    BundleVariant,
    DataSource,
    Library,
    MeasuredOn,
    TaskFigure,
    TaskSource,
    VariantFigures,
    WeightsSource,
)
from stages.common.records.evidence import VariantEvidence
from stages.common.records.scores import TaskScore
from stages.common.records.tasks import load_tasks
from stages.common.records.verdict import VariantVerdict

MB = 1_000_000
# onnxruntime multiplies 8-bit activations and weights with VPMADDUBSW where x86 has nothing newer; its 16-bit sums
# saturate unless weights have 7 bits (reduce_range). The figures were judged without that.
VNNI = ("amx_int8", "avx512_vnni", "avx_vnni")


def build_record(
    model: Model, target: Target, inputs: BundleInputs, release: PassedRelease, *, content: str, runtime: str
) -> BundleRecord:
    """Return the record of bundle.json.

    Args:
        model: the base model's configuration.
        target: the target.
        inputs: the input folders, verified.
        release: what passed the gate.
        content: digest of the bundle's content.
        runtime: path of the wheel in the bundle.
    """
    verdict, evidence = release.verdict, release.evidence
    baseline = evidence.variants[verdict.baseline].full_scores
    variants = {
        name: _build_variant(evidence.variants[name], verdict.variants[name], baseline) for name in release.shipped
    }
    fallback: dict[str, list[str]] = {}
    for name, variant in variants.items():
        fallback.setdefault(variant.space_id, []).append(name)
    latency = evidence.latency
    return BundleRecord(
        content=content,
        model=BundleModel(name=model.name, repo=model.repo, revision=model.revision, license=model.license),
        target=target,
        baseline=verdict.baseline,
        selection=BundleSelection(rule=selection.RULE, order=list(release.shipped), fallback=fallback),
        variants=variants,
        measured_on=MeasuredOn(
            machine=latency.machine,
            threads=latency.threads,
            quota=latency.quota,
            uncertified=verdict.uncertified,
        ),
        sources=_build_sources(inputs),
        build=_collect_build(inputs, release.shipped),
        runtime=runtime,
    )


def require_schema(record: BundleRecord, schema: bytes) -> None:
    """Check that a record follows the contract's JSON Schema; a jsonschema ValidationError is a fault of this stage."""
    from jsonschema import Draft202012Validator

    parsed = json.loads(schema)
    Draft202012Validator.check_schema(parsed)
    Draft202012Validator(parsed).validate(json.loads(record.dump()))


def _build_variant(
    evidence: VariantEvidence, verdict: VariantVerdict, baseline: Mapping[str, TaskScore]
) -> BundleVariant:
    variant, body = evidence.variant, manifest.read(evidence.folder)
    return BundleVariant(
        digest=body.digest,
        kind=variant.kind,
        precision=variant.precision,
        bits=WEIGHT_BITS[variant.precision],
        device="cpu",  # where all encoders run, and all figures were measured
        cpu_any=_required_cpu(variant),
        space_id=verdict.space_id,
        dimensions=variant.dimensions,
        matryoshka=list(variant.matryoshka),
        max_tokens=variant.max_tokens,
        prompts=variant.prompts,
        size_mb=round(body.size / MB, 3),
        measured=_build_figures(evidence, baseline),
        checks=verdict.checks,
    )


def _build_figures(evidence: VariantEvidence, baseline: Mapping[str, TaskScore]) -> VariantFigures:
    """Return a variant's figures.

    Raises:
        IntegrityError: its latency was not measured, which no gate passes.
    """
    latency = evidence.latency
    if isinstance(latency, Failure):
        raise IntegrityError(
            f"{evidence.variant.name}: passed the gate without latency ({latency.error}). Next: dvc repro latency gate."
        )
    return VariantFigures(
        peak_rss_mb=latency.peak_rss_mb,
        cold_start_s=latency.cold_start_s.median,
        median_ms={tokens: times.median_ms for tokens, times in latency.lengths.items()},
        speedup={tokens: times.speedup.median for tokens, times in latency.lengths.items()},
        quality={
            task: TaskFigure(
                type=score.type,
                metric=score.metric,
                score=score.main_score,
                of_baseline=_ratio(score, baseline.get(task)),
            )
            for task, score in evidence.full_scores.items()
        },
    )


def _ratio(score: TaskScore, baseline: TaskScore | None) -> float | None:
    return round(score.main_score / baseline.main_score, 6) if baseline and baseline.main_score else None


def _required_cpu(variant: Variant) -> dict[str, list[str]]:
    """Return the instruction sets of which an x86 CPU needs one to compute as the variant was judged."""
    if variant.kind != "onnx" or not (settings := variant.recipe.get("quantize")):
        return {}
    quantize = OnnxQuantize.model_validate(settings)
    return {"x86_64": list(VNNI)} if quantize.dynamic and not quantize.reduce_range else {}


def _build_sources(inputs: BundleInputs) -> BundleSources:
    weights, data = manifest.read(inputs.weights), manifest.read(inputs.data)
    tasks = [
        TaskSource(
            name=task.name,
            type=task.type,
            version=task.version or None,
            license=task.license or None,
            reference=task.reference or None,
            package=task.package or None,
        )
        for task in load_tasks(inputs.data)
    ]
    return BundleSources(
        weights=WeightsSource(digest=weights.digest, made_by=weights.stage, files=weights.hashes),
        data=DataSource(digest=data.digest, tasks=tasks),
        requirements_lock=manifest.sha256(inputs.project / "requirements.lock"),
    )


def _collect_build(inputs: BundleInputs, shipped: Mapping[str, Path]) -> Build:
    """Return the parameters of every step and the libraries that had a part in it, from the steps' own manifests."""
    steps = {name: manifest.read(getattr(inputs, name)) for name in ("quality", "latency", "gate", "weights")}
    variants = {name: manifest.read(folder) for name, folder in shipped.items()}
    bodies = [*steps.values(), *variants.values(), manifest.read(inputs.data)]
    libraries = {(name, version) for body in bodies for name, version in body.libraries.items()}
    parameters = {name: body.parameters for name, body in steps.items()}
    parameters["gate"] = {key: value for key, value in parameters["gate"].items() if key != "target"}
    parameters["variants"] = {name: body.parameters.get("variant") for name, body in variants.items()}
    return Build(
        parameters=parameters,
        libraries=[Library(name=name, version=version) for name, version in sorted(libraries)],
    )
