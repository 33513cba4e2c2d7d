"""A search file: which recipes are compared, each as changes to one of conf/variant."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from embed_foundry.errors import InputError
from embed_foundry.system_errors import retryable_error
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from stages.common.config.variant import Recipe

RECIPES = Path("conf/variant")
# The YAML of a recipe, or of what to change in one.
Settings = Mapping[str, Any]


class Search(BaseModel):
    """The content of a search file.

    Attributes:
        lengths: tokens at which speed-ups are measured.
        rounds: timed rounds a length.
        recipes: name to a variant's recipe: `of` names one of conf/variant, the other keys change it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    lengths: list[int] = Field(min_length=1)
    rounds: int = Field(ge=6)
    recipes: dict[str, Settings] = Field(min_length=1)


def load_search(path: Path) -> Search:
    """Read a search file.

    Raises:
        InputError: missing, not YAML, or not what `Search` allows.
    """
    try:
        return Search.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:  # pydantic's errors are ValueErrors
        raise retryable_error(error, path) or InputError(
            f"{path}: not a search file ({error}). Start from tests/benchmarks/recipes.yaml."
        ) from None


def build_recipe(name: str, changes: Settings) -> Recipe:
    """Return a recipe of conf/variant with changes.

    Raises:
        InputError: there is no such recipe, or the schema refuses the changed one.
    """
    names = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    if changes.get("of") not in names:
        raise InputError(f"search: recipe {name} is `of` {changes.get('of')!r}; expected one of {names}.")
    original = yaml.safe_load((RECIPES / f"{changes['of']}.yaml").read_text(encoding="utf-8"))
    settings = _merge(original, {key: value for key, value in changes.items() if key != "of"})
    try:
        recipe: Recipe = TypeAdapter(Recipe).validate_python(settings)
    except ValidationError as error:
        raise InputError(f"search: recipe {name} is not valid ({error}).") from None
    return recipe


def _merge(original: Settings, changes: Settings) -> Settings:
    """Return `original` with `changes` laid over it, mapping by mapping."""
    merged = dict(original)
    for key, value in changes.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if nested else value
    return merged
