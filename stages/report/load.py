"""The stages' folders read into the report's facts."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from embed_foundry import IntegrityError, Variant, manifest

from stages.common.config import Model
from stages.common.contract.output import read_output
from stages.report.facts import Facts, Seen, Task

# What can fail about a variant while the build goes on: each part then holds {"error": why}.
PARTS = ("parity", "quality", "latency")


def gather(model: Model, target: str, variants: Mapping[str, Path], quality: Path, latency: Path, gate: Path) -> Facts:
    """Read the stages' folders.

    Args:
        model: the base model's configuration.
        target: the target's name.
        variants: name to folder of every catalogued variant.
        quality: the quality stage's folder.
        latency: the latency stage's folder.
        gate: the gate folder.

    Raises:
        IntegrityError: the gate's verdict is about other variants or another target.
    """
    verdict, sizes = read_output(gate / "verdict.json"), read_output(gate / "metrics.json")
    if set(verdict["variants"]) != set(variants) or verdict["target"] != target:
        raise IntegrityError(
            f"{gate}: is about {sorted(verdict['variants'])} at {verdict['target']}, "
            f"this build has {sorted(variants)} at {target}. Next: dvc repro gate."
        )
    scores, times = read_output(quality / "scores.json"), read_output(latency / "latency.json")
    seen = tuple(
        _seen(folder, verdict["variants"][name], float(sizes[name]["size_mb"]), scores, times)
        for name, folder in variants.items()
    )
    seen = tuple(sorted(seen, key=lambda one: (one.name != verdict["baseline"], one.judged["candidate"], one.name)))
    found = {
        name: Task(name, score["type"], score["metric"], score["samples"], tuple(sorted(score.get("subsets", ()))))
        for one in seen
        for tasks in one.quality.values()
        for name, score in tasks.items()
    }
    return Facts(
        model=model,
        target=target,
        verdict=verdict,
        variants=seen,
        tasks=tuple(sorted(found.values(), key=lambda task: (task.type, task.name))),
        dimensions=tuple(sorted({int(key) for one in seen for key in one.quality}, reverse=True)),
        lengths=tuple(sorted({int(key) for one in seen for key in one.latency.get("lengths", {})})),
        latency={key: value for key, value in times.items() if key != "variants"},
        floor=read_output(quality / "floor.json"),
        mixed=read_output(quality / "compatibility.json"),
        shorter=read_output(quality / "shorter.json"),
        sources=tuple(_sources(verdict["catalog"], {"quality": quality, "latency": latency, "gate": gate}, variants)),
    )


def _seen(
    folder: Path, judged: dict[str, Any], size_mb: float, scores: Mapping[str, Any], times: Mapping[str, Any]
) -> Seen:
    variant = Variant.load(folder)
    found = {
        "parity": variant.parity,
        "quality": scores.get(variant.name, {"error": "not measured"}),
        "latency": times["variants"].get(variant.name, {"error": "not measured"}),
    }
    errors = {part: str(found[part]["error"]) for part in PARTS if "error" in found[part]}
    parts = {part: {} if part in errors else found[part] for part in PARTS}
    return Seen(variant, size_mb, judged, errors=errors, **parts)


def _sources(
    catalog: str, folders: Mapping[str, Path], variants: Mapping[str, Path]
) -> Iterator[tuple[str, str, dict[str, str]]]:
    yield "catalog", catalog, {}
    for name, folder in [*variants.items(), *folders.items()]:
        made = manifest.read(folder)
        yield name, made.digest, made.libraries
