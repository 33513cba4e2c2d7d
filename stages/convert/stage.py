"""The convert stage: the base model and one recipe in, one variant out."""

import hashlib
import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from embed_foundry import TruncationWarning, Variant, manifest
from embed_foundry.encoders.variant import NAME as VARIANT_JSON

from stages.common.config import Model
from stages.common.config.variant import Recipe
from stages.common.contract.output import folder_size, stage_output
from stages.common.records.base import Failure
from stages.common.records.parity import Parity
from stages.convert.conversion import ConversionResult, Folders, load_converter
from stages.convert.tokenizer import load_tokenizer

# Where `cache` is in a build.
CACHE = Path(".cache/convert")


def run(name: str, recipe: Recipe, model: Model, base: Path, out: Path, *, cache: Path) -> Variant:
    """Convert one variant and return its record.

    Args:
        name: the variant's name.
        recipe: its settings.
        model: the base model's configuration.
        base: verified SentenceTransformer folder.
        out: the variant folder.
        cache: a folder for intermediate results that later conversions reuse; safe to delete.

    Raises:
        InputError: the base model cannot be converted this way.
        IntegrityError: `base` differs from its manifest.
        RetryableError: another process converts this variant, or the disk is too small.
    """
    converter = load_converter(recipe.kind)
    with stage_output(
        out,
        stage=f"convert@{name}",
        parameters={"variant": recipe.model_dump(mode="json"), "model": model.vector_settings()},
        inputs={"base": base},
        libraries=converter.LIBRARIES,
        needs_bytes=3 * folder_size(base),  # the exported graph, its quantised copy, room for a temporary one
    ) as work:
        folders = Folders(base=base, work=work, cache=cache)
        with _silence_logs():
            result = converter.convert(folders, recipe)
        variant = _describe(name, recipe, model, folders, result)
        record = work / VARIANT_JSON
        record.write_bytes(manifest.canonical(variant.to_json()))
        with _silence_logs():
            parity = _compare(folders, result)
        if isinstance(parity, Failure):
            warnings.warn(f"convert@{name}: {parity.error} No gate lets this variant pass.", stacklevel=2)
        record.write_bytes(manifest.canonical(replace(variant, parity=parity.model_dump(mode="json")).to_json()))
        return Variant.load(work)


def _describe(name: str, recipe: Recipe, model: Model, folders: Folders, result: ConversionResult) -> Variant:
    """Return the variant's record, without its parity."""
    base, tokenizer = folders.base, load_tokenizer(folders.base, folders.cache)
    settings = recipe.model_dump(mode="json")
    shorter = {dimensions for dimensions in model.matryoshka if dimensions < result.dimensions}
    return Variant(
        name=name,
        kind=recipe.kind,
        precision=recipe.precision,
        model=describe_origin(base, model),
        space_id=compute_space_id(base, model, settings if result.own_space else None),
        dimensions=result.dimensions,
        matryoshka=tuple(sorted({result.dimensions, *shorter}, reverse=True)),
        max_tokens=result.max_tokens or math.ceil(model.max_tokens * result.tokens_per_token),
        prompts=model.prompts,
        files=result.files,
        recipe=settings | result.recipe_entries,
        batching=result.batching,
        pad_id=tokenizer.settings.pad_id,
        truncation_side=tokenizer.settings.truncation_side,
        vocabulary=0 if result.own_space else tokenizer.settings.vocabulary,
        pools_prompt=result.own_space or tokenizer.settings.pools_prompt,
    )


def _compare(folders: Folders, result: ConversionResult) -> Parity | Failure:
    """Return the parity of the files in `work`, or why there is none, the conversion's own caveat included."""
    from stages.convert.parity import measure_parity

    if result.fault:
        parity: Parity | Failure = Failure(error=result.fault)
    else:
        parity = measure_parity(folders, own_space=result.own_space, exact=result.exact)
    return Failure(error=f"{parity.error} {result.caveat}".rstrip()) if isinstance(parity, Failure) else parity


@contextmanager
def _silence_logs() -> Iterator[None]:
    """Drop what exporters and quantizers log, lines for every node, and that parity truncates texts on purpose."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TruncationWarning)
            yield
    finally:
        logging.disable(logging.NOTSET)


def describe_origin(base: Path, model: Model) -> str:
    """Return what a variant is made of: repository and commit, and the fine-tuning stage that came between, if any."""
    stage = str(manifest.read(base).stage)
    return f"{model.repo}@{model.revision}" + (f"+{stage}" if stage.startswith("finetune@") else "")


def compute_space_id(base: Path, model: Model, own_recipe: Mapping[str, object] | None) -> str:
    """Return the digest of what defines a vector space: weights, modules, prompts, unit norm, and a recipe of its own.

    Args:
        base: the base model's folder.
        model: its configuration.
        own_recipe: the recipe of a conversion that leaves the base model's space, else None.
    """
    files = manifest.read(base).hashes
    space = {"files": files, "prompts": model.prompts, "unit_norm": True, "own": own_recipe}
    return hashlib.sha256(manifest.canonical(space)).hexdigest()[:16]
