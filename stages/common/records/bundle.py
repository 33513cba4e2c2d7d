"""bundle.json: what a release holds, and the figures and limits that let it out.

The runtime's bundle.schema.json is the same layout for readers that know no Python; the bundle stage holds the two to
each other.
"""

from typing import ClassVar

from embed_foundry import contract
from pydantic import Field, JsonValue

from stages.common.config.model import License
from stages.common.config.target import Target
from stages.common.records.base import AliasedRecord, Record, SparseRecord
from stages.common.records.latency import Quota
from stages.common.records.machine import Machine
from stages.common.records.verdict import Check


class BundleModel(Record):
    """The base model: its name here, its repository and commit, its licence."""

    name: str
    repo: str
    revision: str
    license: License


class BundleSelection(Record):
    """How a runtime chooses a variant.

    Attributes:
        rule: version of the rule, `embed_foundry.selection` in the bundle's runtime.
        order: shipped variants in the order in which the target wants them tried.
        fallback: space id -> the variants that may replace each other, in order.
    """

    rule: int
    order: list[str]
    fallback: dict[str, list[str]]


class TaskFigure(SparseRecord):
    """One task's score of full vectors.

    Attributes:
        type: mteb's task type.
        metric: mteb's name of the main score.
        score: most metrics run from 0 to 1.
        of_baseline: the score over the baseline's; None if that has none.
    """

    type: str
    metric: str
    score: float
    of_baseline: float | None = None


class VariantFigures(Record):
    """What was measured of one variant.

    Attributes:
        peak_rss_mb: peak memory of a process, in 10^6 bytes; None if it was not measured.
        cold_start_s: median seconds from a process's start to its first vector; None if it was not measured.
        median_ms: tokens -> median milliseconds of one text per call.
        speedup: tokens -> median of the paired ratios to the baseline.
        quality: task -> its score.
    """

    peak_rss_mb: float | None
    cold_start_s: float | None
    median_ms: dict[int, float]
    speedup: dict[int, float]
    quality: dict[str, TaskFigure]


class BundleVariant(Record):
    """One shipped variant.

    Attributes:
        digest: of its folder's manifest.
        kind, precision, dimensions, matryoshka, max_tokens, prompts: as in its variant.json.
        bits: width of its weights.
        device: "cpu" or "cuda".
        cpu_any: architecture -> instruction sets of which the CPU needs one; absent where any CPU will do.
        space_id: the vector space, as confirmed by mixed indexes.
        size_mb: of its files, in 10^6 bytes.
        measured: its figures.
        checks: every limit that it was judged by.
    """

    digest: str
    kind: str
    precision: str
    bits: int
    device: str
    cpu_any: dict[str, list[str]]
    space_id: str
    dimensions: int
    matryoshka: list[int]
    max_tokens: int
    prompts: dict[str, str]
    size_mb: float
    measured: VariantFigures
    checks: list[Check]


class MeasuredOn(Record):
    """Where latency was measured; None where it was not recorded.

    Attributes:
        machine: its fingerprint.
        threads: of a process.
        quota: its CPU quota and memory limit.
        uncertified: how it differs from the target's kind of host; see `Verdict`.
    """

    machine: Machine | None
    threads: int | None
    quota: Quota | None
    uncertified: list[str] = Field(default=[])


class WeightsSource(AliasedRecord):
    """What the conversions started from.

    Attributes:
        digest: of the folder's manifest.
        made_by: the DVC stage that made it.
        files: file name -> SHA-256.
    """

    digest: str
    made_by: str = Field(alias="stage")
    files: dict[str, str]


class TaskSource(SparseRecord):
    """One task of the suite; what is unknown is left out. See `records.tasks.TaskRecord`."""

    name: str
    type: str
    version: str | None = None
    license: str | None = None
    reference: str | None = None
    package: str | None = None


class DataSource(Record):
    """The suite's data: digest of the folder's manifest, and its tasks."""

    digest: str
    tasks: list[TaskSource]


class BundleSources(AliasedRecord):
    """What the bundle was made from.

    Attributes:
        weights: the base model, or a fine-tuned one.
        data: what quality was measured on.
        requirements_lock: SHA-256 of requirements.lock.
    """

    weights: WeightsSource
    data: DataSource
    requirements_lock: str = Field(alias="requirements.lock")


class Library(Record):
    """One distribution that had a part in the build."""

    name: str
    version: str


class Build(Record):
    """How it was built.

    Attributes:
        parameters: step -> its parameters, from the step's manifest; "variants" has them by variant.
        libraries: those that can change a byte or a figure, sorted.
    """

    parameters: dict[str, dict[str, JsonValue]]
    libraries: list[Library]


class BundleRecord(AliasedRecord):
    """bundle.json.

    Attributes:
        schema_version: of the contract.
        content: digest of the files that a user runs or distributes.
        model: the base model.
        target: as configured, with every limit that was judged.
        baseline: the variant that ratios are to.
        selection: how a runtime chooses.
        variants: name -> what shipped, in the target's order.
        measured_on: where latency was measured.
        sources: what it was made from.
        build: how it was built.
        runtime: path of the wheel in the bundle.
    """

    FILE: ClassVar[str] = contract.NAME
    stage: ClassVar[str] = "bundle"
    schema_version: int = Field(alias="schema", default=contract.SCHEMA)
    content: str
    model: BundleModel
    target: Target
    baseline: str
    selection: BundleSelection
    variants: dict[str, BundleVariant]
    measured_on: MeasuredOn
    sources: BundleSources
    build: Build
    runtime: str

    @property
    def first(self) -> BundleVariant:
        """The target's first choice."""
        return self.variants[self.selection.order[0]]
