"""The stages' folders in, the report's content out."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from embed_foundry import IntegrityError, manifest

from stages.common.config import Model
from stages.common.records.base import Failure
from stages.common.records.evidence import Evidence
from stages.common.records.verdict import Verdict
from stages.report.content import Report, Source, TaskSummary
from stages.report.variant import VariantReport


def load_report(
    model: Model, target: str, folders: Mapping[str, Path], quality: Path, latency: Path, gate: Path
) -> Report:
    """Read the stages' folders.

    Args:
        model: the base model's configuration.
        target: the target's name.
        folders: name to folder of every catalogued variant.
        quality: the quality stage's folder.
        latency: the latency stage's folder.
        gate: the gate folder.

    Raises:
        IntegrityError: a file is not what its stage writes, or the verdict is about other variants or another target.
    """
    verdict = Verdict.load(gate / Verdict.FILE)
    if set(verdict.variants) != set(folders) or verdict.target != target:
        raise IntegrityError(
            f"{gate}: is about {sorted(verdict.variants)} at {verdict.target}, "
            f"this build has {sorted(folders)} at {target}. Next: dvc repro gate."
        )
    evidence = Evidence.load(folders, quality, latency)
    variants = [VariantReport(measured, verdict.variants[name]) for name, measured in evidence.variants.items()]
    variants.sort(key=lambda variant: (variant.name != verdict.baseline, variant.verdict.candidate, variant.name))
    return Report(
        model=model,
        target=target,
        verdict=verdict,
        evidence=evidence,
        variants=tuple(variants),
        tasks=tuple(sorted(_summarize_tasks(variants), key=lambda task: (task.type, task.name))),
        dimensions=tuple(sorted({key for variant in variants for key in variant.evidence.dimensions}, reverse=True)),
        lengths=tuple(sorted({key for variant in variants if variant.latency for key in variant.latency.lengths})),
        sources=(
            Source("catalog", verdict.catalog, {}),
            *_read_sources({**folders, "quality": quality, "latency": latency, "gate": gate}),
        ),
    )


def _summarize_tasks(variants: Iterable[VariantReport]) -> Iterable[TaskSummary]:
    """Return every task that any variant was scored on, once."""
    tasks = {}
    for variant in variants:
        scores = variant.evidence.scores
        for by_task in [] if isinstance(scores, Failure) else scores.root.values():
            for name, score in by_task.items():
                subsets = tuple(sorted(score.subsets or ()))
                tasks[name] = TaskSummary(name, score.type, score.metric, score.samples, subsets)
    return tasks.values()


def _read_sources(folders: Mapping[str, Path]) -> Iterator[Source]:
    for name, folder in folders.items():
        body = manifest.read(folder)
        yield Source(name, body.digest, body.libraries)
