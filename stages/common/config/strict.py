"""What every part of the configuration's schema is made of."""

import math
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


class Strict(BaseModel):
    """Frozen, no unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("a limit must be a finite number")
    return value


Limit = Annotated[float, AfterValidator(_finite)]
