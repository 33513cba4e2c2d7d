"""params.yaml: the whole composed answer, strict: unknown keys, wrong types and non-finite limits end in exit 2.

`load` is the only reader of params.yaml; conf/ holds the choices and the comments that say when to change a value.
"""

from pathlib import Path
from typing import Any

import yaml
from embed_foundry.errors import InputError
from pydantic import ValidationError, model_validator

from stages.common.config.engine import Engine
from stages.common.config.finetune import Finetune
from stages.common.config.measurement import Gate, Latency, Quality
from stages.common.config.model import Model
from stages.common.config.strict import Strict
from stages.common.config.suite import Suite
from stages.common.config.target import Target
from stages.common.config.variant import Recipe, TfliteRecipe, TorchRecipe

PARAMS = Path("params.yaml")


class Params(Strict):
    """The whole composed answer."""

    model: Model
    target: Target
    finetune: Finetune
    suite: Suite
    variants: dict[str, Recipe]
    baseline: str
    quality: Quality
    engine: Engine
    latency: Latency
    gate: Gate

    @model_validator(mode="after")
    def _names(self) -> "Params":
        if self.baseline not in self.variants:
            raise ValueError(f"baseline {self.baseline!r} is not among the variants {sorted(self.variants)}")
        if not isinstance(self.variants[self.baseline], TorchRecipe):
            raise ValueError(
                f"baseline {self.baseline!r} must be of kind torch: it is what conversions are compared to"
            )
        limit = self.model.max_tokens
        for name, variant in self.variants.items():
            if isinstance(variant, TfliteRecipe) and max(variant.lengths) > limit:
                raise ValueError(f"variants.{name}.lengths {variant.lengths} exceed {self.model.name}'s {limit} tokens")
        halves = [
            name
            for name in self.target.candidates
            if isinstance(recipe := self.variants.get(name), TorchRecipe) and recipe.precision == "fp16"
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
