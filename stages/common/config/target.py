"""Where variants will run, and the limits that they must meet there: the schema of `target` in params.yaml."""

from typing import Annotated, Literal

from embed_foundry.encoders.providers import CPU, PROVIDERS
from pydantic import Field, field_validator, model_validator

from stages.common.config.strict import Limit, Strict
from stages.common.records.tasks import TaskType


class Resources(Strict):
    """What the target gives a process.

    Attributes:
        threads: CPU threads.
        cpus: CPU quota, such as 0.5; None is none.
        memory_mb: the most memory, in 10^6 bytes.
        enforce_memory: whether a variant is measured in a control group that ends a process at `memory_mb`.
    """

    threads: int = Field(gt=0)
    cpus: Annotated[float, Field(gt=0)] | None = None
    memory_mb: int = Field(gt=0)
    enforce_memory: bool = False


class Host(Strict):
    """The kind of host that a target is. Figures from another kind are not certified there.

    Attributes:
        arch: the CPU's architecture; None where any will do.
        system: the operating system, or "browser"; None where any will do.
        providers: execution providers in the order in which they are tried, keys of PROVIDERS.
    """

    arch: Literal["x86_64", "aarch64"] | None = None
    system: Literal["Linux", "Darwin", "Windows", "Android", "browser"] | None = None
    providers: list[str] = Field(default=[*CPU])

    @field_validator("providers")
    @classmethod
    def _require_known_providers(cls, names: list[str]) -> list[str]:
        if unknown := sorted(set(names) - set(PROVIDERS)):
            raise ValueError(f"unknown execution providers {unknown}; there are {sorted(PROVIDERS)}")
        if len(set(names)) != len(names) or names[-1:] != list(CPU):
            raise ValueError(f"providers {names}: each may be listed once, and the last must be cpu, which takes all")
        return names


class Limits(Strict):
    """The limits of one variant at one target. A limit that is not set is not judged.

    What each one is held against, and how it is shown: stages/common/limits/table.py.
    """

    size_mb_max: Limit | None = None
    size_ratio_max: Limit | None = None
    cosine_mean_min: Limit | None = None
    cosine_min_min: Limit | None = None
    batch_shift_max: Limit | None = None
    median_cosine_shift_max: Limit | None = None
    retention_min: dict[TaskType, Limit] = Field(default={})
    lead_min: dict[TaskType, Limit] = Field(default={})
    score_min: dict[TaskType, Limit] = Field(default={})
    speedup_min: dict[int, Limit] = Field(default={})
    batch_speedup_min: Limit | None = None
    peak_rss_mb_max: Limit | None = None
    peak_rss_over_baseline_mb_max: Limit | None = None
    cold_start_s_max: Limit | None = None


class Target(Strict):
    """A place to run: its resources, what may ship there in the order it is tried, and the limits."""

    name: str
    host: Host = Host()
    resources: Resources
    candidates: list[str] = Field(min_length=1)
    required: int = Field(ge=1)
    limits: dict[str, Limits]

    @model_validator(mode="after")
    def _require_distinct_candidates(self) -> "Target":
        if len(set(self.candidates)) != len(self.candidates):
            raise ValueError(f"candidates {self.candidates}: each may be listed once")
        return self
