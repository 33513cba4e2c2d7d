"""Which absolute limits of a target a model is too large for, known before anything is built."""

import math
from collections.abc import Collection, Iterator

from embed_foundry.encoders.kinds import WEIGHT_BITS

from stages.common.config import Params
from stages.common.config.variant import OnnxRecipe, OpenvinoRecipe, Recipe, TfliteRecipe, TorchRecipe
from stages.common.limits.table import LIMITS

MB = 1e6
# Some weights are not exported, such as BERT's pooler: a base model has 0.6 of 110 million in it.
EXPORTED = 0.95
# A proposed limit leaves room for the tokenizer and for parts in a higher precision.
ROOM = 1.3


def find_unreachable(params: Params) -> Iterator[str]:
    """Yield a line for each candidate whose files cannot be as small as the target wants them, and what to set.

    Nothing is said of a model whose number of weights is not known, nor of static tables, whose size the recipe sets.
    """
    weights, limits = params.model.parameters, params.target.limits
    for name in params.target.candidates:
        recipe = params.variants.get(name)
        bits = least_bits(recipe) if recipe else None
        section = name if name in limits else "default"
        limit = limits[section].size_mb_max if section in limits else None
        if weights is None or bits is None or limit is None:
            continue
        least = EXPORTED * weights * bits / 8 / MB
        if least > limit:
            setting = f"target.limits.{section}.size_mb_max"
            yield (
                f"{name} of {params.model.name} takes at least {least:.0f} MB ({weights / MB:.0f} million weights of "
                f"{bits} bits), and {setting} is {limit:g}: it cannot pass. Set {setting}={_propose(least)} if the "
                f"host has the room, or leave it out: '~{setting}'."
            )


def find_unmeasured(params: Params, types: Collection[str]) -> Iterator[str]:
    """Yield a line for each limit of a candidate that is built, but for whose type of tasks the suite has none.

    Args:
        params: the composed configuration.
        types: mteb's types of the suite's tasks.
    """
    built = [name for name in params.target.candidates if name in params.variants]
    limits = params.target.limits
    for section in dict.fromkeys(name if name in limits else "default" for name in built):
        unmet = [
            f"{spec.name}.{key}"
            for spec in LIMITS
            if section in limits and spec.per == "task type"
            for key, _ in spec.bounds(limits[section])
            if key not in types
        ]
        long = [
            tokens for tokens in getattr(limits.get(section), "speedup_min", {}) if tokens > params.model.max_tokens
        ]
        if long:
            yield (
                f"target.limits.{section}.speedup_min of {long} tokens cannot be met: {params.model.name} takes "
                f"{params.model.max_tokens}. Leave the limit out: '~target.limits.{section}.speedup_min'."
            )
        if unmet:
            yield (
                f"target.limits.{section}: the suite has no task for {', '.join(unmet)}, so it cannot pass. Add one or "
                f"leave the limit out: '~target.limits.{section}.{unmet[0]}'."
            )
    if len(built) < params.target.required:
        yield (
            f"target.required is {params.target.required}, and {len(built)} of the candidates are built: "
            f"{', '.join(built) or 'none'}. Add others to variant, or the gate cannot pass."
        )


def least_bits(recipe: Recipe) -> int | None:
    """Return the least bits that a variant takes for each weight; None if its size does not follow from the model's."""
    match recipe:
        case TorchRecipe():
            return WEIGHT_BITS[recipe.precision]
        case OnnxRecipe():
            return min(recipe.quantize.embedding.bits, recipe.quantize.weights.bits) if recipe.quantize else 32
        case OpenvinoRecipe():
            return min(8, recipe.compress.embedding_bits) if recipe.compress else 32
        case TfliteRecipe():
            return min((rule.bits for rule in recipe.rules), default=32)
        case _:
            return None


def _propose(least: float) -> int:
    """Return a limit that a variant can meet, in round numbers."""
    return math.ceil(ROOM * least / 10) * 10
