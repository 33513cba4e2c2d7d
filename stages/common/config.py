"""The schema of params.yaml, strict: unknown keys, wrong types, NaN limits and floating revisions end in exit 2.

`load` is the only reader of params.yaml; conf/ holds the choices and the comments that say when to change a value.
"""

import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import yaml
from embed_foundry.errors import InputError
from pydantic import AfterValidator, Field, ValidationError, model_validator

from stages.common.finetuning import Finetune
from stages.common.recipes import TfliteVariant, TorchVariant, Variant
from stages.common.strict import Limit, Strict
from stages.common.suites import Suite

PARAMS = Path("params.yaml")


def _commit(value: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{40}", value):
        raise ValueError("expected the 40 hex digits of a commit; branches, tags and short hashes move")
    return value


def _model_file(value: str) -> str:
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or path.as_posix() != value or "\\" in value:
        raise ValueError("expected a file's path inside the model folder, such as 1_Pooling/config.json")
    if path.suffix not in MODEL_FORMATS:
        raise ValueError(f"a base model takes {', '.join(MODEL_FORMATS)} only: other formats can carry code")
    return value


# What a base model's files may be: data formats that nothing executes or unpickles.
MODEL_FORMATS = (".json", ".model", ".safetensors", ".txt")
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Revision = Annotated[str, AfterValidator(_commit)]
ModelFile = Annotated[str, AfterValidator(_model_file)]
TaskType = Literal[
    "Retrieval",
    "Classification",
    "Clustering",
    "BitextMining",
    "STS",
    "PairClassification",
    "Reranking",
    "MultilabelClassification",
    "Summarization",
]


class License(Strict):
    """The base model's licence: SPDX id or name, its text's address, and whether the hub asks to accept it first."""

    name: str
    url: str
    gated: bool


class Model(Strict):
    """One base model: where its files come from, what they must be, how it is used."""

    name: str
    source: Literal["package", "hub", "folder"]
    repo: str = Field(pattern=r"^[\w.-]+(/[\w.-]+)?$")
    revision: Revision
    package: str | None = Field(pattern=r"^[A-Za-z_]\w*$")
    folder: str | None
    files: dict[ModelFile, Sha256 | None] = Field(min_length=1)
    license: License
    dimensions: int = Field(gt=0)
    matryoshka: list[int]
    max_tokens: int = Field(gt=0)
    prompts: dict[str, str]

    @model_validator(mode="after")
    def _sources(self) -> "Model":
        if self.source == "package" and not self.package:
            raise ValueError("source=package needs model.package, a module that is installed")
        if self.source == "folder" and not self.folder:
            raise ValueError("source=folder needs model.folder=PATH")
        if any(not 0 < cut <= self.dimensions for cut in self.matryoshka):
            raise ValueError(f"matryoshka dimensions must be between 1 and {self.dimensions}")
        return self


class Resources(Strict):
    """What the target gives a process."""

    threads: int = Field(gt=0)
    cpus: Annotated[float, Field(gt=0)] | None = None
    memory_mb: int = Field(gt=0)


class Limits(Strict):
    """The limits of one variant at one target. None is "not judged"; everything else is judged and reported."""

    size_mb_max: Limit | None = None
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
    cold_start_s_max: Limit | None = None


class Target(Strict):
    """A place to run: its resources, what may ship there in the order it is tried, and the limits."""

    name: str
    resources: Resources
    candidates: list[str] = Field(min_length=1)
    required: int = Field(ge=1)
    limits: dict[str, Limits]


class Quality(Strict):
    """How quality is measured."""

    batch_size: int = Field(gt=0)
    max_tokens: list[Annotated[int, Field(gt=0)]] = Field(default=[])


class Engine(Strict):
    """Where quality's cells are measured: in the stage's own process, or on a Dask cluster."""

    name: Literal["local", "dask"]
    address: Annotated[str, Field(pattern=r"^(tcp|tls)://[^/]+:\d+$")] | None = None
    shared: str | None = None
    wait_s: int = Field(default=60, gt=0)

    @model_validator(mode="after")
    def _address(self) -> "Engine":
        if self.name == "dask" and self.address is None:
            raise ValueError("engine=dask needs engine.address=tcp://HOST:PORT, the address of a Dask scheduler")
        return self


class Gate(Strict):
    """How sure a verdict must be: the level of its one-sided bounds, and how many resamples they come from."""

    confidence: float = Field(ge=0.5, lt=1)
    resamples: int = Field(ge=1000)
    seed: int = Field(ge=0)
    mixed_index_min: float = Field(gt=0, le=1)


class Latency(Strict):
    """How latency is measured; 6 rounds are the fewest that carry a 95 % interval of their median."""

    lengths: list[Annotated[int, Field(gt=0)]] = Field(min_length=1)
    rounds: int = Field(ge=6)
    tight: Annotated[float, Field(gt=0)]
    extra_s: int = Field(ge=0)
    gap_ms: int = Field(ge=0)
    batch_size: int = Field(ge=2)
    batch_length: int = Field(gt=0)
    batch_rounds: int = Field(ge=6)
    cold_starts: int = Field(gt=0)
    seed: int

    @model_validator(mode="after")
    def _lengths(self) -> "Latency":
        if len(set(self.lengths)) != len(self.lengths):
            raise ValueError(f"lengths {self.lengths} name one twice")
        return self


class Params(Strict):
    """The whole composed answer."""

    model: Model
    target: Target
    finetune: Finetune
    suite: Suite
    variants: dict[str, Variant]
    baseline: str
    quality: Quality
    engine: Engine
    latency: Latency
    gate: Gate

    @model_validator(mode="after")
    def _names(self) -> "Params":
        if self.baseline not in self.variants:
            raise ValueError(f"baseline {self.baseline!r} is not among the variants {sorted(self.variants)}")
        if not isinstance(self.variants[self.baseline], TorchVariant):
            raise ValueError(
                f"baseline {self.baseline!r} must be of kind torch: it is what conversions are compared to"
            )
        limit = self.model.max_tokens
        for name, variant in self.variants.items():
            if isinstance(variant, TfliteVariant) and max(variant.lengths) > limit:
                raise ValueError(f"variants.{name}.lengths {variant.lengths} exceed {self.model.name}'s {limit} tokens")
        halves = [
            name
            for name in self.target.candidates
            if isinstance(recipe := self.variants.get(name), TorchVariant) and recipe.precision == "fp16"
        ]
        if halves:
            raise ValueError(
                f"candidates {halves} cannot ship: on a CPU, fp16 values over 65504 become NaN; choose fp32 or bf16"
            )
        known = {*self.variants, *self.target.candidates, "default"}
        if unknown := sorted(set(self.target.limits) - known):
            raise ValueError(f"target.limits of {unknown} would judge nothing; limits may be set for {sorted(known)}")
        if self.target.required > len(set(self.target.candidates)):
            raise ValueError(
                f"target.required is {self.target.required}, more than the candidates {self.target.candidates}"
            )
        return self


def load(path: Path = PARAMS) -> Params:
    """Read and check params.yaml.

    Raises:
        InputError: missing, not YAML, or not what the schema allows; the message lists every fault.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: missing; run this in the repository root, after `embed-foundry compose`.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not readable YAML ({error}). Write it again with `embed-foundry compose`.") from None
    return parse(raw, str(path))


def parse(raw: Any, origin: str) -> Params:  # noqa: ANN401 - any YAML value
    """Check a composed configuration; `origin` names it in errors.

    Raises:
        InputError: as `load`.
    """
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        faults = "\n".join(
            f"  {_where(item['loc'])}: {item['msg']} (got {item['input']!r:.80})" for item in error.errors()
        )
        raise InputError(
            f"{origin} is not a valid configuration:\n{faults}\n"
            "Valid options stand in conf/, each with a comment; correct the override and run embed-foundry compose."
        ) from None


def _where(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "the whole"
