"""Everything the report shows, as one typed value: the figures, not how they are written."""

from collections.abc import Iterable
from dataclasses import dataclass

from embed_foundry.encoders.kinds import KINDS

from stages.common.config import Model
from stages.common.limits import LIMITS
from stages.common.records.evidence import Evidence
from stages.common.records.latency import LatencyReport
from stages.common.records.verdict import Verdict
from stages.report.variant import VariantReport

# Limits on a task's score.
QUALITY_LIMITS = tuple(spec.name for spec in LIMITS if spec.per == "task type")


@dataclass(frozen=True)
class TaskSummary:
    """One task of the suite.

    Attributes:
        name: mteb's or the suite's name.
        type: mteb's task type.
        metric: mteb's name of the main score.
        samples: how many were scored.
        subsets: e.g. languages; empty where there is one.
    """

    name: str
    type: str
    metric: str
    samples: int
    subsets: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """A folder that the report was made from: its digest, and the library versions that shaped it."""

    name: str
    digest: str
    libraries: dict[str, str]


@dataclass(frozen=True)
class Report:
    """The whole report's content.

    Attributes:
        model: the base model's configuration.
        target: the target's name.
        verdict: the gate's.
        evidence: what quality and latency measured.
        variants: the baseline, then the other references, then what may ship; by name among their like.
        tasks: in the order of their type, then name.
        dimensions: that were scored, descending.
        lengths: in tokens, ascending.
        sources: the folders that this report was made from.
    """

    model: Model
    target: str
    verdict: Verdict
    evidence: Evidence
    variants: tuple[VariantReport, ...]
    tasks: tuple[TaskSummary, ...]
    dimensions: tuple[int, ...]
    lengths: tuple[int, ...]
    sources: tuple[Source, ...]

    @property
    def latency(self) -> LatencyReport:
        """The latency stage's report."""
        return self.evidence.latency

    @property
    def crowded(self) -> bool:
        """Whether other processes took CPUs that the measured threads needed, as the latency stage found it."""
        return self.latency.host.crowded

    @property
    def timing(self) -> str:
        """What the timed rounds took, as a sentence."""
        series = self.latency.series
        rounds, seconds = sum(item.rounds for item in series), sum(item.seconds for item in series)
        sentence = f"{rounds} rounds took {seconds:.0f} of {self.latency.budget_s} seconds."
        sparse = sorted({name for item in series for name in item.periods})
        return f"{sentence} Not timed in every round: {', '.join(sparse)}." if sparse else sentence

    @property
    def baseline(self) -> VariantReport:
        """The variant that retention and speed-up are relative to."""
        return next(variant for variant in self.variants if variant.name == self.verdict.baseline)

    @property
    def types(self) -> tuple[str, ...]:
        """The task types, sorted."""
        return tuple(sorted({task.type for task in self.tasks}))

    def gops(self, variant: VariantReport, tokens: int) -> float | None:
        """Return the model's operations at one text length over a variant's median time, in 10^9 a second, or None.

        None for a variant that does not compute the model's products, but looks vectors up.
        """
        operations, median_ms = self.latency.operations.get(tokens), variant.median_ms(tokens)
        if not KINDS[variant.record.kind].multiplies or not operations or not median_ms:
            return None
        return operations / median_ms / 1e6

    def retention(self, variant: VariantReport, task: str, dimensions: int | None = None) -> float | None:
        """Return a score as a fraction of the baseline's at the baseline's full dimension; None if either is missing.

        One reference for all dimensions, so that the figure says what truncating costs too. As in the gate, a baseline
        at or below zero has no ratio.
        """
        value, reference = variant.score(task, dimensions), self.baseline.score(task)
        return value / reference if value is not None and reference and reference > 0 else None

    def least_retention(self, variant: VariantReport, task_type: str) -> float | None:
        """Return the least retention among the tasks of a type at the full dimension; None if one is missing."""
        values = _complete(self.retention(variant, task.name) for task in self.tasks if task.type == task_type)
        return min(values) if values else None

    def mean_retention(self, variant: VariantReport) -> float | None:
        """Return the mean retention over all tasks at the full dimension; None if one is missing."""
        values = _complete(self.retention(variant, task.name) for task in self.tasks)
        return sum(values) / len(values) if values else None

    def missed_quality(self, variant: VariantReport, task_type: str) -> bool:
        """Return whether the variant misses a quality limit on any task of a type."""
        tasks = [task.name for task in self.tasks if task.type == task_type]
        return any(variant.missed(limit, task) for limit in QUALITY_LIMITS for task in tasks)


def _complete(values: Iterable[float | None]) -> list[float]:
    """Return the values if none is missing, else []."""
    complete: list[float] = []
    for value in values:
        if value is None:
            return []
        complete.append(value)
    return complete
