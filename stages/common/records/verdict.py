"""gate/verdict.json: every limit judged, a verdict for each variant, one for the release."""

from typing import ClassVar, Literal

from pydantic import Field, computed_field, model_validator

from stages.common.records.base import Record

Outcome = Literal["pass", "fail", "inconclusive"]


class Check(Record):
    """One limit, judged.

    Attributes:
        limit: the limit's name in the target.
        on: what it was judged on, e.g. a task or a length; "" where the limit is one number.
        bound: the limit's value.
        value: the measured value, or the lower bound of a ratio; None if it is missing, which fails.
        margin: how far inside (positive) or outside (negative) of the bound the value lies, in the value's unit.
        verdict: "pass", "fail", or "inconclusive": the limit lies between the lower and the upper bound.
        estimate: the ratio itself, where value is a bound of it.
        high: its upper bound.
        samples: on how many samples, or rounds, it was measured.
        needed: about how many would decide an inconclusive one, if the estimate stays; None if no reachable number.
        note: why it is not met, where figures alone do not say.
    """

    limit: str
    on: str
    bound: float
    value: float | None
    margin: float | None
    verdict: Outcome
    estimate: float | None = None
    high: float | None = None
    samples: int | None = None
    needed: int | None = None
    note: str = ""

    @model_validator(mode="before")
    @classmethod
    def _drop_derived(cls, values: object) -> object:
        """Ignore what follows from the verdict: files carry it for readers that do not use this class."""
        return {key: value for key, value in values.items() if key != "passes"} if isinstance(values, dict) else values

    @computed_field  # type: ignore[prop-decorator]  # pydantic's own way
    @property
    def passes(self) -> bool:
        """Whether the limit is met; an inconclusive one is not."""
        return self.verdict == "pass"


class VariantVerdict(Record):
    """What the gate decided of one variant.

    Attributes:
        space_id: its vector space, as confirmed by mixed indexes.
        alone: why its space is its own although it declares the baseline's; empty if it is not.
        candidate: whether it may ship at the target.
        passes: every limit is met and nothing failed.
        inconclusive: limits are missed only for want of samples.
        reasons: why it does not pass, in words.
        checks: every limit.
    """

    space_id: str
    alone: list[str]
    candidate: bool
    passes: bool
    inconclusive: bool
    reasons: list[str]
    checks: list[Check]


class ReleaseVerdict(Record):
    """Whether there is a release.

    Attributes:
        passes: as many candidates pass as the target requires.
        passing: their names, in the target's order.
        reason: the count, in words.
    """

    passes: bool
    passing: list[str]
    reason: str


class Verdict(Record):
    """gate/verdict.json.

    Attributes:
        target, baseline: as configured.
        catalog: digest of the catalog that was judged.
        uncertified: how the target's kind of host differs from the machine that latency was measured on; empty if it
            does not. Until `embed-foundry certify` ran on such a host, times and memory there are not known.
        variants: name -> verdict.
        release: the release's.
    """

    FILE: ClassVar[str] = "verdict.json"
    stage: ClassVar[str] = "gate"
    target: str
    baseline: str
    catalog: str
    uncertified: list[str] = Field(default=[])
    variants: dict[str, VariantVerdict]
    release: ReleaseVerdict
