"""One variant as the report shows it."""

from dataclasses import dataclass
from typing import Literal

from embed_foundry import Variant

from stages.common.records.base import Failure
from stages.common.records.evidence import VariantEvidence
from stages.common.records.latency import LengthLatency, VariantLatency
from stages.common.records.parity import Parity
from stages.common.records.verdict import VariantVerdict


@dataclass(frozen=True)
class VariantReport:
    """One variant: what was measured, and what the gate decided."""

    evidence: VariantEvidence
    verdict: VariantVerdict

    @property
    def record(self) -> Variant:
        """The variant's own record."""
        return self.evidence.variant

    @property
    def name(self) -> str:
        """The variant's name."""
        return self.record.name

    @property
    def size_mb(self) -> float:
        """Size of all its files, in 10^6 bytes."""
        return self.evidence.size_mb

    @property
    def errors(self) -> dict[str, str]:
        """Part -> message, for the parts that failed: parity, quality, latency."""
        return self.evidence.errors

    @property
    def parity(self) -> Parity | None:
        """Closeness to the base model; None if it failed."""
        return None if isinstance(self.evidence.parity, Failure) else self.evidence.parity

    @property
    def latency(self) -> VariantLatency | None:
        """Times and memory; None if they failed."""
        return None if isinstance(self.evidence.latency, Failure) else self.evidence.latency

    @property
    def cosine_min(self) -> float | None:
        """Least cosine to the base model's vectors; None if there is none."""
        return self.parity.cosine_min if self.parity else None

    @property
    def status(self) -> Literal["PASS", "FAIL", "OPEN", "reference"]:
        """OPEN: more samples would decide. Variants that may not ship at the target are references."""
        if not self.verdict.candidate:
            return "reference"
        return "PASS" if self.verdict.passes else "OPEN" if self.verdict.inconclusive else "FAIL"

    @property
    def missed_size(self) -> bool:
        """Whether the variant misses a limit of its size."""
        return self.missed("size_mb_max") or self.missed("size_ratio_max")

    def score(self, task: str, dimensions: int | None = None) -> float | None:
        """Return the main score of a task at a dimension (None: the full one); None if it was not measured."""
        score = self.evidence.score(task, dimensions)
        return score.main_score if score else None

    def subset(self, task: str, subset: str) -> float | None:
        """Return the score of a task's subset at the full dimension, or None."""
        score = self.evidence.score(task)
        return score.subsets.get(subset) if score and score.subsets else None

    def times(self, tokens: int) -> LengthLatency | None:
        """Return the figures at one text length; None if it was not measured."""
        return self.latency.lengths.get(tokens) if self.latency else None

    def median_ms(self, tokens: int) -> float | None:
        """Return the median milliseconds of one text at one length, or None."""
        times = self.times(tokens)
        return times.median_ms if times else None

    def speedup(self, tokens: int) -> float | None:
        """Return the median paired ratio to the baseline at one text length, or None."""
        times = self.times(tokens)
        return times.speedup.median if times else None

    def missed(self, limit: str, on: str = "") -> bool:
        """Return whether the variant misses this limit; `on` empty means on anything."""
        return any(check.limit == limit and on in ("", check.on) and not check.passes for check in self.verdict.checks)
