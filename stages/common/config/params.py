"""params.yaml as a whole. Unknown keys, wrong types and non-finite limits end in exit 2.

`load` is the only reader of params.yaml. conf/ holds the options, with comments that say when to change a value.
"""

from pathlib import Path

import yaml
from embed_foundry.errors import InputError
from embed_foundry.system_errors import retryable_error
from pydantic import ValidationError, model_validator

from stages.common.config.engine import Engine
from stages.common.config.finetune import Finetune, FinetuneSettings
from stages.common.config.measurement import Gate, Latency, Quality
from stages.common.config.model import Model
from stages.common.config.strict import Strict
from stages.common.config.suite import Suite
from stages.common.config.target import Target
from stages.common.config.variant import Recipe, TfliteRecipe, TorchRecipe

PARAMS = Path("params.yaml")


class Params(Strict):
    """The composed configuration."""

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
    def _require_baseline(self) -> "Params":
        if self.baseline not in self.variants:
            raise ValueError(f"baseline {self.baseline!r} is not among the variants {sorted(self.variants)}")
        if not isinstance(self.variants[self.baseline], TorchRecipe):
            raise ValueError(
                f"baseline {self.baseline!r} must be of kind torch, because conversions are compared with it"
            )
        return self

    @model_validator(mode="after")
    def _require_lengths_within_model(self) -> "Params":
        limit = self.model.max_tokens
        for name, recipe in self.variants.items():
            if isinstance(recipe, TfliteRecipe) and max(recipe.lengths) > limit:
                raise ValueError(f"variants.{name}.lengths {recipe.lengths} exceed {self.model.name}'s {limit} tokens")
        return self

    @model_validator(mode="after")
    def _require_candidates_that_can_ship(self) -> "Params":
        half_precision = [
            name
            for name in self.target.candidates
            if isinstance(recipe := self.variants.get(name), TorchRecipe) and recipe.precision == "fp16"
        ]
        if half_precision:
            raise ValueError(
                f"candidates {half_precision} cannot ship: on a CPU, fp16 values over 65504 become NaN; "
                "choose fp32 or bf16"
            )
        if self.target.required > (count := len(set(self.target.candidates))):
            raise ValueError(
                f"target.required is {self.target.required}, but there are only {count} candidates: "
                f"{', '.join(self.target.candidates)}"
            )
        return self

    @model_validator(mode="after")
    def _require_limits_that_judge(self) -> "Params":
        allowed = {*self.variants, *self.target.candidates, "default"}
        if unknown := sorted(set(self.target.limits) - allowed):
            raise ValueError(f"target.limits of {unknown} would judge nothing; limits can be set for {sorted(allowed)}")
        unlimited = sorted(set(self.target.candidates) - set(self.target.limits))
        if unlimited and "default" not in self.target.limits:
            raise ValueError(
                f"candidates {unlimited} have no limits, so anything would pass; set target.limits.NAME, or "
                "target.limits.default for all that have none of their own"
            )
        return self

    @model_validator(mode="after")
    def _require_lengths_that_are_timed(self) -> "Params":
        for section, limits in self.target.limits.items():
            untimed = sorted(set(limits.speedup_min) - set(self.latency.lengths))
            if untimed and section in {*self.variants, "default"}:
                raise ValueError(
                    f"target.limits.{section}.speedup_min of {untimed} tokens would never be met: latency.lengths are "
                    f"{self.latency.lengths}. Add the length there, or leave the limit out: "
                    f"'~target.limits.{section}.speedup_min'"
                )
        return self

    @model_validator(mode="after")
    def _require_prompts_of_the_model(self) -> "Params":
        if isinstance(self.finetune, FinetuneSettings) and self.model.prompts:
            for column, name in self.finetune.prompts.model_dump().items():
                if name is not None and name not in self.model.prompts:
                    raise ValueError(
                        f"finetune.prompts.{column} is {name!r}; {self.model.name} has {sorted(self.model.prompts)}"
                    )
        return self


def load(path: Path = PARAMS) -> Params:
    """Read and validate params.yaml.

    Raises:
        InputError: it is missing, is not YAML, or violates the schema; the message lists every fault.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: missing; run this in the repository root, after `embed-foundry compose`.") from None
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:  # ValueError: a number of 5000 digits
        raise retryable_error(error, path) or InputError(
            f"{path}: not readable YAML ({error}). Rewrite it with `embed-foundry compose`."
        ) from None
    return parse(raw, str(path))


def parse(raw: object, origin: str) -> Params:
    """Validate a composed configuration.

    Args:
        raw: any YAML value.
        origin: its name in errors.

    Raises:
        InputError: it violates the schema; the message lists every fault.
    """
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        faults = "\n".join(
            f"  {_dotted_path(item['loc'])}: {item['msg']} (got {item['input']!r:.80})" for item in error.errors()
        )
        raise InputError(
            f"{origin} is not a valid configuration:\n{faults}\n"
            "conf/ lists the valid options, with comments. Correct the override, then run embed-foundry compose."
        ) from None


def _dotted_path(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "the whole file"
