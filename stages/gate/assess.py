"""Evidence in, one assessment per variant out: spaces confirmed, scores compared with the baseline's."""

from collections.abc import Iterator, Mapping

from embed_foundry import IntegrityError, Variant

from stages.common.config import Gate
from stages.common.limits import Assessment, RatioBounds
from stages.common.limits.readings import AT_EVERY_DIMENSION
from stages.common.records.evidence import Evidence, VariantEvidence
from stages.common.records.latency import Quota
from stages.common.records.scores import Columns, TaskSamples
from stages.gate import paired, spaces


def assess(config: Gate, baseline: str, evidence: Evidence) -> dict[str, Assessment]:
    """Return the assessment of each variant by name.

    Args:
        config: how sure bounds must be.
        baseline: the variant that others are compared with.
        evidence: what was measured.

    Raises:
        IntegrityError: two variants were measured on different samples.
    """
    variants = evidence.variants
    declared = {name: measured.variant.space_id for name, measured in variants.items()}
    confirmed = spaces.confirm(declared, baseline, evidence.compatibility, config.mixed_index_min)
    retention = compare_scores(config, baseline, variants)
    return {
        name: Assessment(
            evidence=measured,
            tasks=evidence.tasks,
            floor=evidence.floor.root,
            retention=retention[name],
            space_id=confirmed[name].space_id,
            alone=confirmed[name].alone,
            prompt_mismatch=_compare_prompts(measured.variant, variants[baseline].variant),
            unenforced=_explain_unenforced(evidence.latency.quota),
            crowded=evidence.latency.host.crowded,
        )
        for name, measured in variants.items()
    }


def compare_scores(
    config: Gate, baseline: str, variants: Mapping[str, VariantEvidence]
) -> dict[str, dict[int, dict[str, RatioBounds]]]:
    """Return variant -> dimension -> task -> its score over the baseline's.

    Full vectors are compared with the baseline's full vectors, whatever their lengths; truncated ones, for the type of
    tasks that truncation costs most, with the baseline's at the same length.

    Raises:
        IntegrityError: two variants were measured on different samples.
    """
    result: dict[str, dict[int, dict[str, RatioBounds]]] = {name: {} for name in variants}
    base = variants[baseline]
    full = base.variant.dimensions
    for task, score in base.full_scores.items():
        for dimensions in base.dimensions if score.type == AT_EVERY_DIMENSION else [full]:
            reference = base.score(task, dimensions)
            samples: dict[tuple[str, int], TaskSamples] = {}
            estimates: dict[tuple[str, int], float] = {}
            for name, length in _comparable(variants, dimensions, full, score.type):
                own, subsets = variants[name].score(task, length), _samples(variants[name], length, task, score.metric)
                if own and reference and reference.main_score > 0 and subsets:
                    samples[name, length] = subsets
                    estimates[name, length] = round(own.main_score / reference.main_score, 6)
            if (baseline, dimensions) not in samples:
                continue
            try:
                ratios = paired.bound_ratios(config, f"{task}@{dimensions}", samples, (baseline, dimensions), estimates)
            except (KeyError, ValueError) as error:
                raise IntegrityError(
                    f"quality: samples of {task}@{dimensions} do not pair up ({error}). Next: dvc repro quality."
                ) from None
            for (name, length), ratio in ratios.items():
                result[name].setdefault(length, {})[task] = ratio
    return result


def _comparable(
    variants: Mapping[str, VariantEvidence], dimensions: int, full: int, task_type: str
) -> Iterator[tuple[str, int]]:
    """Yield the variants and their lengths whose scores are held against the baseline's at some dimensions.

    Args:
        variants: by name.
        dimensions: the length of the baseline's vectors.
        full: the length of its full ones.
        task_type: of the task.
    """
    for name, measured in variants.items():
        own = measured.variant.dimensions
        if dimensions == full:
            yield name, own
        if dimensions < own and task_type == AT_EVERY_DIMENSION:
            yield name, dimensions


def _samples(measured: VariantEvidence, dimensions: int, task: str, metric: str) -> TaskSamples:
    """Return a task's samples by subset: of the main score alone, where a subset has it; {} if a subset has none."""
    subsets = measured.samples.root.get(dimensions, {}).get(task, {}) if measured.samples else {}

    def choose(columns: Columns) -> Columns:
        return {metric: columns[metric]} if metric in columns else columns

    return {subset: choose(columns) for subset, columns in subsets.items()} if all(subsets.values()) else {}


def _compare_prompts(variant: Variant, baseline: Variant) -> str:
    """Return how a variant's prompts differ from the baseline's; "" if they do not."""
    if variant.prompts == baseline.prompts:
        return ""
    return (
        f"its prompts differ from the baseline's: {sorted(variant.prompts)}, "
        f"expected {sorted(baseline.prompts)} with the same texts"
    )


def _explain_unenforced(quota: Quota) -> str:
    """Return why the target's CPU quota did not hold during latency; "" if it did, or there is none."""
    if quota.cpus is None or quota.enforced:
        return ""
    return (
        f"the target's quota of {quota.cpus:g} CPUs could not be enforced on this machine ({quota.why}); "
        "run latency as root on Linux, or on the target itself with target.resources.cpus=null"
    )
