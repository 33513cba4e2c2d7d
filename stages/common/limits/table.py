"""The table of limits. A new limit takes a row here, a field of `config.Limits`, a line in conf/target, and a test."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from stages.common.config import Limits
from stages.common.limits import readings
from stages.common.limits.readings import Reader


@dataclass(frozen=True)
class LimitSpec:
    """One limit that a target may set.

    Attributes:
        name: as in the target.
        direction: "max" if values up to the limit pass, "min" if values from it on do.
        read: the figures it is held against.
        label: its name in a report.
        unit: of the limit and its values; "%" if they are fractions that are shown in per cent.
        decimals: how many are shown.
        per: what the limit is a mapping by; "" if it is one number.
        timed: only the target's own CPU quota tells whether it is met.
    """

    name: str
    direction: Literal["max", "min"]
    read: Reader
    label: str
    unit: str = ""
    decimals: int = 4
    per: Literal["", "task type", "tokens"] = ""
    timed: bool = False

    def bounds(self, limits: Limits) -> Iterator[tuple[str, float]]:
        """Yield the key ("" if it is one number) and the value of each limit of this name that is set."""
        value: float | Mapping[str, float] | Mapping[int, float] | None = getattr(limits, self.name)
        if isinstance(value, Mapping):
            yield from ((str(key), bound) for key, bound in sorted(value.items()))
        elif value is not None:
            yield "", value


# In the order in which they are judged and shown.
LIMITS = (
    LimitSpec("size_mb_max", "max", readings.read_size, "size", "MB", 1),
    LimitSpec("size_ratio_max", "max", readings.read_size_ratio, "size, of the baseline's", "%", 1),
    LimitSpec(
        "cosine_mean_min", "min", readings.read_parity(lambda parity: parity.cosine_mean), "mean cosine", decimals=5
    ),
    LimitSpec(
        "cosine_min_min", "min", readings.read_parity(lambda parity: parity.cosine_min), "least cosine", decimals=5
    ),
    LimitSpec(
        "batch_shift_max", "max", readings.read_parity(lambda parity: parity.batch_shift_max), "batch shift", decimals=5
    ),
    LimitSpec(
        "median_cosine_shift_max",
        "max",
        readings.read_parity(lambda parity: parity.median_cosine_shift),
        "median cosine shift",
    ),
    LimitSpec(
        "peak_rss_mb_max", "max", readings.read_latency(lambda latency: latency.peak_rss_mb), "peak memory", "MB", 0
    ),
    LimitSpec(
        "peak_rss_over_baseline_mb_max",
        "max",
        readings.read_rss_over_baseline,
        "peak memory, less the baseline's files",
        "MB",
        0,
    ),
    LimitSpec(
        "cold_start_s_max",
        "max",
        readings.read_latency(lambda latency: latency.cold_start_s.median),
        "cold start",
        "s",
        2,
        timed=True,
    ),
    LimitSpec("retention_min", "min", readings.read_retention, "retention", "%", 2, per="task type"),
    LimitSpec("lead_min", "min", readings.read_lead, "lead over noise kept", "%", 1, per="task type"),
    LimitSpec("score_min", "min", readings.read_score, "score", per="task type"),
    LimitSpec("batch_speedup_min", "min", readings.read_batch_speedup, "speed-up in batches", "×", 2, timed=True),
    LimitSpec("speedup_min", "min", readings.read_speedup, "speed-up", "×", 2, per="tokens", timed=True),
)
_BY_NAME = {spec.name: spec for spec in LIMITS}


def spec_of(name: str) -> LimitSpec:
    """Return a limit by its name in the target."""
    return _BY_NAME[name]
