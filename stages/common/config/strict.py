"""The base class of the configuration's schema, and its type of finite numbers."""

import math
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


class Strict(BaseModel):
    """A frozen model that refuses unknown keys and converts no types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("a limit must be a finite number")
    return value


Limit = Annotated[float, AfterValidator(_finite)]
