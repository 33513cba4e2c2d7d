"""One variant as the gate judges it: its evidence, and what follows from comparing it with the baseline."""

from collections.abc import Mapping
from dataclasses import dataclass

from stages.common.records.evidence import VariantEvidence


@dataclass(frozen=True)
class RatioBounds:
    """A ratio to the baseline and its bounds.

    Attributes:
        estimate: the ratio itself.
        low, high: lower and upper bound.
        samples: how many samples, or rounds, it stands on.
        se: standard error over the resamples; None where bounds come from order statistics.
    """

    estimate: float
    low: float
    high: float
    samples: int
    se: float | None = None


# dimension -> task -> the variant's score over the baseline's.
Retention = Mapping[int, Mapping[str, RatioBounds]]


@dataclass(frozen=True)
class Assessment:
    """All that a verdict on one variant follows from.

    Attributes:
        evidence: what was measured.
        tasks: task -> its type, of every task that some variant was measured on.
        floor: task -> main score of random token vectors.
        retention: its scores over the baseline's.
        space_id: its vector space, as confirmed by mixed indexes.
        alone: why its space is its own although it declares the baseline's; empty if it is not.
        prompt_mismatch: how its prompts differ from the baseline's; "" if they do not.
        unenforced: why the target's CPU quota did not hold while latency was measured; "" if it did, or there is none.
        crowded: other processes took CPUs that the measured threads needed.
    """

    evidence: VariantEvidence
    tasks: Mapping[str, str]
    floor: Mapping[str, float]
    retention: Retention
    space_id: str
    alone: list[str]
    prompt_mismatch: str
    unenforced: str
    crowded: bool

    @property
    def errors(self) -> dict[str, str]:
        """Return part -> why it failed; a lost prompt costs quality without an error of its own."""
        return ({"record": self.prompt_mismatch} if self.prompt_mismatch else {}) | self.evidence.errors
