"""latency/latency.json: what was timed, under which conditions. A figure that too few samples support is absent."""

from typing import ClassVar

from embed_foundry.encoders.providers import CPU
from pydantic import Field

from stages.common.records.base import Failure, Record, SparseRecord
from stages.common.records.machine import Machine


class HostLoad(SparseRecord):
    """What else went on while latency was measured.

    Attributes:
        load_before, load_after: 1-minute load averages.
        others_cpus: CPUs that other processes kept busy, on average.
        throttled_s: seconds that the stage's own control group stood still for its quota; None if that cannot be read.
        steal_s: CPU seconds that a hypervisor gave to other guests; None if that cannot be read.
        crowded: whether other processes took CPUs that the measured threads needed, so that times mislead.
    """

    load_before: float
    load_after: float
    others_cpus: float
    throttled_s: float | None = None
    steal_s: float | None = None
    crowded: bool


class Quota(SparseRecord):
    """The CPU quota and the memory limit that the target asks for.

    Attributes:
        cpus: CPUs; None if the target has no quota.
        enforced: whether the quota was in force.
        why: why a quota was not in force; None otherwise.
        throttled_s: seconds that the measured processes stood still for the quota; None if it was not in force.
        memory_mb: the most memory of a process, in 10^6 bytes; None if the target does not ask for it to be enforced.
        memory_enforced: whether that limit was in force; None if it was not asked for.
        memory_why: why it was not in force; None otherwise.
    """

    nullable: ClassVar[frozenset[str]] = frozenset({"cpus"})
    cpus: float | None
    enforced: bool
    why: str | None = None
    throttled_s: float | None = None
    memory_mb: int | None = None
    memory_enforced: bool | None = None
    memory_why: str | None = None


class Speedup(Record):
    """Median of baseline time / own time, paired by round, with its 95 % interval (timing/statistics.py)."""

    median: float
    low: float
    high: float


class LengthLatency(SparseRecord):
    """One text per call, at one length in tokens.

    Attributes:
        n: samples.
        median_ms: milliseconds of a call.
        after_pause_ms: median of calls after a pause.
        p95_ms, p99_ms: percentiles; None below 59 and 299 rounds.
        p95_ms_upper, p99_ms_upper: their 95 % upper bounds.
        speedup: over the baseline.
    """

    n: int
    median_ms: float
    after_pause_ms: float
    p95_ms: float | None = None
    p95_ms_upper: float | None = None
    p99_ms: float | None = None
    p99_ms_upper: float | None = None
    speedup: Speedup


class BatchLatency(Record):
    """Many texts per call.

    Attributes:
        size: texts per call.
        tokens: length of each.
        n: samples.
    """

    size: int
    tokens: int
    n: int
    median_ms: float
    texts_per_s: float
    tokens_per_s: float
    speedup: Speedup


class TimedSeries(Record):
    """What the rounds of one kind of call took.

    Attributes:
        tokens: length of each text.
        batch: texts per call.
        rounds: how many there were.
        seconds: how long they took, warm-up included.
        periods: variant -> every how many rounds it was timed, for those that were not timed in each.
    """

    tokens: int
    batch: int
    rounds: int
    seconds: float
    periods: dict[str, int]


class ColdStart(Record):
    """Seconds from a process's start to its first vector; files may be in the page cache."""

    median: float
    values: list[float]


class VariantLatency(Record):
    """One variant's times.

    Attributes:
        lengths: tokens -> one text per call.
        batch: many texts per call.
        cold_start_s: in fresh processes.
        peak_rss_mb: peak resident memory of the process at the end, in 10^6 bytes.
    """

    lengths: dict[int, LengthLatency]
    batch: BatchLatency
    cold_start_s: ColdStart
    peak_rss_mb: float


class LatencyReport(Record):
    """latency/latency.json.

    Attributes:
        machine, machine_digest: the fingerprint, and its digest.
        threads, baseline: as configured.
        host: what else went on.
        quota: the target's CPU quota and memory limit.
        providers: execution providers that computed, keys of `encoders.providers.PROVIDERS`.
        peak_gops: number format (fp32, bf16, int8) -> 10^9 operations a second that matrix products reach here.
        budget_s: time for all rounds.
        series: what they took.
        operations: tokens -> operations of the baseline's matrix products for one text. This and peak_gops are empty
            if the baseline does not run in torch.
        variants: name -> times, or why there are none.
    """

    FILE: ClassVar[str] = "latency.json"
    stage: ClassVar[str] = "latency"
    machine: Machine
    machine_digest: str
    threads: int
    baseline: str
    host: HostLoad
    quota: Quota
    budget_s: int
    series: list[TimedSeries]
    peak_gops: dict[str, float]
    operations: dict[int, int]
    variants: dict[str, VariantLatency | Failure]
    providers: list[str] = Field(default=[*CPU])

    def of(self, variant: str) -> VariantLatency | Failure:
        """Return a variant's times, or why there are none."""
        return self.variants.get(variant, Failure(error="not measured"))
