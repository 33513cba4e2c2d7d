"""What is known of each variant, gathered from the stages' files: the only input of a decision."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embed_foundry import IntegrityError, Variant

from stages.common.config import Gate
from stages.common.contract.output import folder_size, read_output
from stages.gate import paired, spaces
from stages.gate.judge import AT_EVERY_DIMENSION, at

MB = 1_000_000
# variant -> dimension -> task -> subset -> column -> one value a sample.
Samples = Mapping[str, Mapping[str, Mapping[str, Mapping[str, Mapping[str, list[float]]]]]]


@dataclass(frozen=True)
class Measured:
    """What quality and latency wrote.

    Attributes:
        scores: content of scores.json.
        samples: content of samples/VARIANT.json by variant; a variant whose encoder failed has none.
        floor: content of floor.json.
        mixed: content of compatibility.json.
        times: content of latency.json.
    """

    scores: dict[str, Any]
    samples: Samples
    floor: dict[str, Any]
    mixed: dict[str, Any]
    times: dict[str, Any]

    @classmethod
    def load(cls, quality: Path, latency: Path, names: Iterable[str]) -> "Measured":
        """Read the files of two stages' folders."""
        paths = {name: quality / "samples" / f"{name}.json" for name in names}
        return cls(
            scores=read_output(quality / "scores.json"),
            samples={name: read_output(path) for name, path in paths.items() if path.exists()},
            floor=read_output(quality / "floor.json"),
            mixed=read_output(quality / "compatibility.json"),
            times=read_output(latency / "latency.json"),
        )


def gather(config: Gate, baseline: str, folders: Mapping[str, Path], seen: Measured) -> dict[str, dict[str, Any]]:
    """Return the facts of each variant by name; a part that failed, or was not measured, is {"error": why}.

    Keys: size_mb, dimensions, space_id, alone (why its space is its own), record, parity, quality, floor, paired,
    latency, unenforced (why times are not the target's), crowded.

    Args:
        config: how sure bounds must be.
        baseline: the variant that others are compared with.
        folders: the catalogued variants.
        seen: what was measured.

    Raises:
        IntegrityError: two variants were measured on different samples.
    """
    variants = {name: Variant.load(folder) for name, folder in folders.items()}
    declared = {name: variant.space_id for name, variant in variants.items()}
    confirmed = spaces.confirm(declared, baseline, seen.mixed, config.mixed_index_min)
    full = {name: str(variant.dimensions) for name, variant in variants.items()}
    compared = compare(config, baseline, full, seen.scores, seen.samples)
    return {
        name: {
            "size_mb": round(folder_size(folders[name]) / MB, 3),
            "dimensions": variant.dimensions,
            "space_id": confirmed[name][0],
            "alone": confirmed[name][1],
            "record": _record(variant, variants[baseline]),
            "parity": variant.parity,
            "quality": seen.scores.get(name, {"error": "not measured"}),
            "floor": seen.floor,
            "paired": compared.get(name, {}),
            "latency": seen.times["variants"].get(name, {"error": "not measured"}),
            "unenforced": _unenforced(seen.times.get("quota", {})),
            "crowded": bool(seen.times.get("host", {}).get("crowded")),
        }
        for name, variant in variants.items()
    }


def _record(variant: Variant, baseline: Variant) -> dict[str, str]:
    """Return what a variant's record must share with the baseline's: a lost prompt costs quality without an error."""
    if variant.prompts != baseline.prompts:
        known, found = sorted(baseline.prompts), sorted(variant.prompts)
        return {"error": f"its prompts differ from the baseline's: {found}, expected {known} with the same texts"}
    return {}


def _unenforced(quota: Mapping[str, Any]) -> str:
    """Return why the target's CPU quota did not hold during latency; "" if it did, or none was asked for."""
    if quota.get("cpus") is None or quota.get("enforced"):
        return ""
    return (
        f"the target's quota of {quota['cpus']:g} CPUs could not be enforced on this machine ({quota.get('why')}); "
        "run latency as root on Linux, or on the target itself with target.resources.cpus=null"
    )


def compare(
    config: Gate, baseline: str, full: Mapping[str, str], scores: Mapping[str, Any], samples: Samples
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return variant -> dimension -> task -> {estimate, low, high, se, samples} of its score over the baseline's.

    Full vectors are compared with the baseline's full vectors, whatever their lengths; cut ones, for the type of tasks
    that cuts cost most, with the baseline's at the same length.
    """
    result: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in samples}
    for task, score in scores.get(baseline, {}).get(full[baseline], {}).items():
        cuts = samples.get(baseline, {}) if score.get("type") == AT_EVERY_DIMENSION else [full[baseline]]
        for cut in cuts:
            lengths = {
                name: full[name] if cut == full[baseline] else cut
                for name in samples
                if cut == full[baseline] or int(cut) < int(full[name])
            }
            columns = {
                name: _of_metric(found, score.get("metric"))
                for name, length in lengths.items()
                if (found := samples[name].get(length, {}).get(task)) and all(found.values())
            }
            reference = at(scores, baseline, cut, task, "main_score")
            if baseline not in columns or reference is None or reference <= 0:
                continue
            for name, bounds in _intervals(config, f"{task}@{cut}", columns, baseline).items():
                mine = at(scores, name, lengths[name], task, "main_score")
                if bounds and mine is not None:
                    found = bounds | {"estimate": round(mine / reference, 6)}
                    result[name].setdefault(lengths[name], {})[task] = found
    return result


def _of_metric(subsets: Mapping[str, Any], metric: str | None) -> Mapping[str, Any]:
    """Return only the column of the task's main score, where there is one among several."""
    return {subset: {metric: columns[metric]} if metric in columns else columns for subset, columns in subsets.items()}


def _intervals(config: Gate, task: str, columns: Mapping[str, Any], baseline: str) -> dict[str, dict[str, Any]]:
    try:
        return paired.intervals(config, task, columns, baseline)
    except (KeyError, ValueError) as error:
        raise IntegrityError(f"quality: samples of {task} do not pair up ({error}). Next: dvc repro quality.") from None
