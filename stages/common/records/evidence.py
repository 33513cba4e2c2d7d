"""All that was measured of the catalogued variants, read once: what gate, report and bundle work on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embed_foundry import Variant

from stages.common.contract.output import folder_size
from stages.common.records.base import Failure
from stages.common.records.latency import LatencyReport, VariantLatency
from stages.common.records.parity import Parity, parity_of
from stages.common.records.scores import (
    Compatibility,
    Floor,
    Samples,
    Scores,
    TaskScore,
    TruncatedScores,
    VariantScores,
)

MB = 1_000_000


@dataclass(frozen=True)
class VariantEvidence:
    """One variant and what was measured of it; a part that failed says why.

    Attributes:
        folder: the variant's folder.
        variant: its own record.
        size_mb: of all its files, in 10^6 bytes.
        parity: closeness to the base model.
        scores: by dimension and task.
        samples: per-sample values; None if its encoder failed.
        latency: times and memory.
    """

    folder: Path
    variant: Variant
    size_mb: float
    parity: Parity | Failure
    scores: VariantScores | Failure
    samples: Samples | None
    latency: VariantLatency | Failure

    @property
    def errors(self) -> dict[str, str]:
        """Return part -> why there are no figures of it, for the parts that failed."""
        parts = {"parity": self.parity, "quality": self.scores, "latency": self.latency}
        return {name: part.error for name, part in parts.items() if isinstance(part, Failure)}

    @property
    def full_scores(self) -> dict[str, TaskScore]:
        """Return task -> score at the variant's full dimension; empty if quality failed."""
        return {} if isinstance(self.scores, Failure) else self.scores.root.get(self.variant.dimensions, {})

    @property
    def dimensions(self) -> list[int]:
        """Return the dimensions that it was scored at, descending; empty if quality failed."""
        return [] if isinstance(self.scores, Failure) else sorted(self.scores.root, reverse=True)

    @property
    def shorter(self) -> list[int]:
        """Return the dimensions of truncated vectors that it declares or was scored at, descending."""
        lengths = {*self.variant.matryoshka, *self.dimensions}
        return sorted((length for length in lengths if length < self.variant.dimensions), reverse=True)

    def score(self, task: str, dimensions: int | None = None) -> TaskScore | None:
        """Return the score of one task at a dimension (None: the full one); None if it was not measured."""
        if isinstance(self.scores, Failure):
            return None
        return self.scores.score(task, dimensions or self.variant.dimensions)


@dataclass(frozen=True)
class Evidence:
    """What quality and latency measured.

    Attributes:
        variants: by name, in the catalog's order.
        floor: what random token vectors score.
        compatibility: mixed indexes.
        truncated: scores of truncated texts.
        latency: the whole latency report: machine, host, quota, peak.
    """

    variants: dict[str, VariantEvidence]
    floor: Floor
    compatibility: Compatibility
    truncated: TruncatedScores
    latency: LatencyReport

    @property
    def tasks(self) -> dict[str, str]:
        """Return task -> its type, of every task that some variant was measured on."""
        return {task: score.type for variant in self.variants.values() for task, score in variant.full_scores.items()}

    @classmethod
    def load(cls, folders: Mapping[str, Path], quality: Path, latency: Path) -> "Evidence":
        """Read two stages' verified folders.

        Args:
            folders: the catalogued variants, as `catalog.load_catalogued_variants` gives them.
            quality: the quality stage's folder.
            latency: the latency stage's folder.

        Raises:
            IntegrityError: a file is missing, or not what its stage writes.
        """
        scores = Scores.load(quality / Scores.FILE)
        report = LatencyReport.load(latency / LatencyReport.FILE)
        variants = {}
        for name, folder in folders.items():
            variant, samples = Variant.load(folder), quality / Samples.FOLDER / f"{name}.json"
            variants[name] = VariantEvidence(
                folder=folder,
                variant=variant,
                size_mb=round(folder_size(folder) / MB, 3),
                parity=parity_of(variant),
                scores=scores.of(name),
                samples=Samples.load(samples) if samples.exists() else None,
                latency=report.of(name),
            )
        return cls(
            variants=variants,
            floor=Floor.load(quality / Floor.FILE),
            compatibility=Compatibility.load(quality / Compatibility.FILE),
            truncated=TruncatedScores.load(quality / TruncatedScores.FILE),
            latency=report,
        )
