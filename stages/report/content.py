"""Everything the report shows, as one typed value: what was found, not how it is written."""

from dataclasses import dataclass
from typing import Any

from embed_foundry import Variant
from embed_foundry.kinds import KINDS

from stages.common.config import Model

# Limits on a task's score.
QUALITY = ("retention_min", "lead_min", "score_min")


@dataclass(frozen=True)
class Task:
    """One task of the suite.

    Attributes:
        name: mteb's or the suite's name.
        type: mteb's task type.
        metric: mteb's name of the main score.
        samples: how many were judged.
        subsets: e.g. languages; empty where there is one.
    """

    name: str
    type: str
    metric: str
    samples: int
    subsets: tuple[str, ...]


@dataclass(frozen=True)
class Seen:
    """One variant and what was found out about it.

    Attributes:
        variant: the variant's own record.
        size_mb: of all its files, in 10^6 bytes.
        judged: the gate's words on it: candidate, passes, reasons, checks.
        parity, quality, latency: figures as their stage wrote them; empty where that part failed.
        errors: part to message, for the parts that failed.
    """

    variant: Variant
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
        """PASS, FAIL or OPEN (more samples would tell) for what may ship at the target, "reference" for the others."""
        if not self.judged["candidate"]:
            return "reference"
        return "PASS" if self.judged["passes"] else "OPEN" if self.judged["inconclusive"] else "FAIL"

    def score(self, task: str, dimensions: int | None = None) -> float | None:
        """Return the main score of a task at a dimension (None: the full one); None if it was not measured."""
        found = self.quality.get(str(dimensions or self.variant.dimensions), {}).get(task)
        return None if found is None else float(found["main_score"])

    def subset(self, task: str, subset: str) -> float | None:
        """Return the score of a task's subset at the full dimension, or None."""
        found = self.quality.get(str(self.variant.dimensions), {}).get(task, {}).get("subsets", {}).get(subset)
        return None if found is None else float(found)

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
        variants: the baseline, then the other references, then what may ship; by name among their like.
        tasks: in the order of their type, then name.
        dimensions: that were scored, descending.
        lengths: in tokens, ascending.
        latency: the content of latency/latency.json, without its variants.
        floor: task to the score of random token vectors.
        mixed: retrieval task to query variant to index variant to figures.
        shorter: retrieval task to variant to tokens to score, with texts cut to so many tokens.
        sources: name, digest and library versions of the folders this report was made from.
    """

    model: Model
    target: str
    verdict: dict[str, Any]
    variants: tuple[Seen, ...]
    tasks: tuple[Task, ...]
    dimensions: tuple[int, ...]
    lengths: tuple[int, ...]
    latency: dict[str, Any]
    sources: tuple[tuple[str, str, dict[str, str]], ...]
    floor: dict[str, float]
    mixed: dict[str, Any]
    shorter: dict[str, Any]

    @property
    def crowded(self) -> bool:
        """Whether other processes took CPUs that the measured threads needed, as the latency stage found it."""
        return bool(self.latency["host"]["crowded"])

    @property
    def baseline(self) -> Seen:
        """The variant that retention and speed-up are relative to."""
        return next(seen for seen in self.variants if seen.name == self.verdict["baseline"])

    @property
    def types(self) -> tuple[str, ...]:
        """The task types, sorted."""
        return tuple(sorted({task.type for task in self.tasks}))

    def gops(self, seen: Seen, tokens: int) -> float | None:
        """Return the model's operations at one text length over a variant's median time, in 10^9 a second, or None.

        None for a variant that does not compute the model's products, but looks vectors up.
        """
        operations, median_ms = self.latency.get("operations", {}).get(str(tokens)), seen.timed(tokens).get("median_ms")
        if not KINDS[seen.variant.kind].multiplies or not operations or not median_ms:
            return None
        return float(operations / median_ms / 1e6)

    def retention(self, seen: Seen, task: str, dimensions: int | None = None) -> float | None:
        """Return a score as a fraction of the baseline's at the baseline's full dimension; None if either is missing.

        One reference for all dimensions, so that the figure says what truncating costs too. As in the gate, a baseline
        at or below zero retains nothing that a ratio could tell.
        """
        value, reference = seen.score(task, dimensions), self.baseline.score(task)
        return value / reference if value is not None and reference and reference > 0 else None

    def least_retention(self, seen: Seen, kind: str) -> float | None:
        """Return the least retention among the tasks of a type at the full dimension; None if one is missing."""
        found = [self.retention(seen, task.name) for task in self.tasks if task.type == kind]
        known = [value for value in found if value is not None]
        return min(known) if known and len(known) == len(found) else None

    def missed_quality(self, seen: Seen, kind: str) -> bool:
        """Return whether the gate found a quality limit missed on any task of a type."""
        tasks = [task.name for task in self.tasks if task.type == kind]
        return any(seen.missed(limit, task) for limit in QUALITY for task in tasks)

    def mean_retention(self, seen: Seen) -> float | None:
        """Return the mean retention over all tasks at the full dimension; None if one is missing."""
        found = [self.retention(seen, task.name) for task in self.tasks]
        known = [value for value in found if value is not None]
        return sum(known) / len(known) if known and len(known) == len(found) else None
