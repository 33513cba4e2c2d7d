"""Everything the report shows, gathered from the stages' folders into one typed value; no formatting here."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embed_foundry import IntegrityError, Variant, manifest

from stages.common.config import Model

# What can fail about a variant while the build goes on: each part then holds {"error": why}.
PARTS = ("parity", "quality", "latency")


@dataclass(frozen=True)
class Task:
    """One task of the suite: its name, mteb type and main metric."""

    name: str
    type: str
    metric: str


@dataclass(frozen=True)
class Seen:
    """One variant and what was found out about it.

    Attributes:
        variant: the variant's own record.
        digest: of its folder.
        libraries: that shaped its bytes, with versions.
        size_mb: of all its files, in 10^6 bytes.
        judged: the gate's words on it: candidate, passes, reasons, checks.
        parity, quality, latency: figures as their stage wrote them; empty where that part failed.
        errors: part to message, for the parts that failed.
    """

    variant: Variant
    digest: str
    libraries: dict[str, str]
    size_mb: float
    judged: dict[str, Any]
    parity: dict[str, Any]
    quality: dict[str, Any]
    latency: dict[str, Any]
    errors: dict[str, str]

    @property
    def name(self) -> str:
        """The variant's name."""
        return self.variant.name

    @property
    def verdict(self) -> str:
        """PASS or FAIL for what may ship at the target, "reference" for what is only compared with."""
        if not self.judged["candidate"]:
            return "reference"
        return "PASS" if self.judged["passes"] else "FAIL"

    def score(self, task: str, dimensions: int | None = None) -> float | None:
        """Return the main score of a task at a dimension (None: the full one); None if it was not measured."""
        found = self.quality.get(str(dimensions or self.variant.dimensions), {}).get(task)
        return None if found is None else float(found["main_score"])

    def timed(self, tokens: int) -> dict[str, Any]:
        """Return the figures at one text length; empty if it was not measured."""
        found: dict[str, Any] = self.latency.get("lengths", {}).get(str(tokens), {})
        return found

    def speedup(self, tokens: int) -> float | None:
        """Return the median paired ratio to the baseline at one text length, or None."""
        found = self.timed(tokens).get("speedup", {}).get("median")
        return None if found is None else float(found)

    def missed(self, limit: str, on: str = "") -> bool:
        """Return whether the gate found this limit missed; `on` empty means on anything."""
        return any(
            check["limit"] == limit and on in ("", check["on"]) and not check["passes"]
            for check in self.judged["checks"]
        )


@dataclass(frozen=True)
class Facts:
    """The whole report's content.

    Attributes:
        model: the base model's configuration.
        target: the target's name.
        verdict: the content of gate/verdict.json.
        variants: in the catalog's order.
        tasks: in the order of their type, then name.
        dimensions: that were scored, descending.
        lengths: in tokens, ascending.
        latency: the content of latency/latency.json, without its variants.
        libraries: versions, of the measuring stages by stage.
        digests: of the folders this report was made from.
    """

    model: Model
    target: str
    verdict: dict[str, Any]
    variants: tuple[Seen, ...]
    tasks: tuple[Task, ...]
    dimensions: tuple[int, ...]
    lengths: tuple[int, ...]
    latency: dict[str, Any]
    libraries: dict[str, dict[str, str]]
    digests: dict[str, str]

    @property
    def baseline(self) -> Seen:
        """The variant that retention and speed-up are relative to."""
        return next(seen for seen in self.variants if seen.name == self.verdict["baseline"])

    @property
    def types(self) -> tuple[str, ...]:
        """The task types, sorted."""
        return tuple(sorted({task.type for task in self.tasks}))

    def retention(self, seen: Seen, task: str, dimensions: int | None = None) -> float | None:
        """Return a score as a fraction of the baseline's at the baseline's full dimension; None if either is missing.

        One reference for all dimensions, so that the figure says what truncating costs too.
        """
        value, reference = seen.score(task, dimensions), self.baseline.score(task)
        return value / reference if value is not None and reference else None

    def least_retention(self, seen: Seen, kind: str) -> float | None:
        """Return the least retention among the tasks of a type at the full dimension; None if one is missing."""
        found = [self.retention(seen, task.name) for task in self.tasks if task.type == kind]
        known = [value for value in found if value is not None]
        return min(known) if known and len(known) == len(found) else None

    def mean_retention(self, seen: Seen) -> float | None:
        """Return the mean retention over all tasks at the full dimension; None if one is missing."""
        found = [self.retention(seen, task.name) for task in self.tasks]
        known = [value for value in found if value is not None]
        return sum(known) / len(known) if known and len(known) == len(found) else None


def gather(
    model: Model, target: str, variants: Mapping[str, Path], quality: Path, latency: Path, gate: Path
) -> Facts:
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
    verdict, sizes = _json(gate / "verdict.json"), _json(gate / "metrics.json")
    if set(verdict["variants"]) != set(variants) or verdict["target"] != target:
        raise IntegrityError(
            f"{gate}: is about {sorted(verdict['variants'])} at {verdict['target']}, "
            f"this build has {sorted(variants)} at {target}. Next: dvc repro gate."
        )
    scores, times = _json(quality / "scores.json"), _json(latency / "latency.json")
    seen = tuple(
        _seen(folder, verdict["variants"][name], float(sizes[name]["size_mb"]), scores, times)
        for name, folder in variants.items()
    )
    found = {
        Task(name, score["type"], score["metric"])
        for one in seen
        for tasks in one.quality.values()
        for name, score in tasks.items()
    }
    return Facts(
        model=model,
        target=target,
        verdict=verdict,
        variants=seen,
        tasks=tuple(sorted(found, key=lambda task: (task.type, task.name))),
        dimensions=tuple(sorted({int(key) for one in seen for key in one.quality}, reverse=True)),
        lengths=tuple(sorted({int(key) for one in seen for key in one.latency.get("lengths", {})})),
        latency={key: value for key, value in times.items() if key != "variants"},
        libraries={folder.name: manifest.read(folder)["libraries"] for folder in (quality, latency)},
        digests={folder.name: manifest.read(folder)["digest"] for folder in (quality, latency, gate)},
    )


def _seen(
    folder: Path, judged: dict[str, Any], size_mb: float, scores: Mapping[str, Any], times: Mapping[str, Any]
) -> Seen:
    variant, made = Variant.load(folder), manifest.read(folder)
    found = {
        "parity": variant.parity,
        "quality": scores.get(variant.name, {"error": "not measured"}),
        "latency": times["variants"].get(variant.name, {"error": "not measured"}),
    }
    errors = {part: str(found[part]["error"]) for part in PARTS if "error" in found[part]}
    parts = {part: {} if part in errors else found[part] for part in PARTS}
    return Seen(variant, made["digest"], made["libraries"], size_mb, judged, errors=errors, **parts)


def _json(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value
