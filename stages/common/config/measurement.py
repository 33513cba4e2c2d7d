"""How quality and latency are measured, and how sure the gate must be: the values of conf/config.yaml itself."""

from typing import Annotated

from pydantic import Field, model_validator

from stages.common.config.strict import Strict


class Quality(Strict):
    """How quality is measured."""

    batch_size: int = Field(gt=0)
    max_tokens: list[Annotated[int, Field(gt=0)]] = Field(default=[])


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
