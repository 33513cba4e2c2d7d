"""The convert stage: the base model and one recipe in, one variant out."""

import hashlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from embed_foundry import Variant, manifest
from embed_foundry.variant import NAME as VARIANT_JSON

from stages.common.config import Model
from stages.common.config.variant import Recipe
from stages.common.contract.output import folder_size, stage_output
from stages.convert.conversion import Converter

# kind -> the room that converts it, and the distributions whose versions shape its bytes.
FAMILIES = {
    "torch": ("stages.convert.torch", ("safetensors", "sentence-transformers", "torch", "transformers")),
    "onnx": (
        "stages.convert.onnx",
        (
            "onnx",
            "onnxruntime",
            "onnxscript",
            "optimum",
            "optimum-onnx",
            "sentence-transformers",
            "torch",
            "transformers",
        ),
    ),
    "openvino": (
        "stages.convert.openvino",
        (
            "nncf",
            "onnx",
            "onnxscript",
            "openvino",
            "optimum",
            "optimum-onnx",
            "sentence-transformers",
            "torch",
            "transformers",
        ),
    ),
    "static": (
        "stages.convert.static",
        (
            "model2vec",
            "onnx",
            "onnxruntime",
            "onnxscript",
            "optimum",
            "optimum-onnx",
            "scikit-learn",
            "sentence-transformers",
            "tokenizers",
            "torch",
            "transformers",
        ),
    ),
    "tflite": (
        "stages.convert.tflite",
        (
            "ai-edge-litert",
            "ai-edge-quantizer",
            "litert-converter",
            "litert-torch",
            "sentence-transformers",
            "sentencepiece",
            "torch",
            "transformers",
        ),
    ),
}
# What of the model's configuration shapes a variant; dvc.yaml names the same as parameters of the stage.
USED = {"repo", "revision", "matryoshka", "max_tokens", "prompts"}


def run(name: str, recipe: Recipe, model: Model, base: Path, out: Path) -> Variant:
    """Convert one variant and return its record.

    Args:
        name: the variant's name.
        recipe: its settings.
        model: the base model's configuration.
        base: verified SentenceTransformer folder.
        out: the variant folder.

    Raises:
        InputError: the base model cannot be converted this way.
        IntegrityError: `base` differs from its manifest.
        RetryableError: another process converts this variant, or the disk is too small.
    """
    from stages.convert import parity

    module, libraries = FAMILIES[recipe.kind]
    family: Converter = import_module(module)
    settings = recipe.model_dump(mode="json")
    parameters = {"variant": settings, "model": model.model_dump(mode="json", include=USED)}
    with stage_output(
        out,
        stage=f"convert@{name}",
        parameters=parameters,
        inputs={"base": base},
        libraries=libraries,
        needs_bytes=3 * folder_size(base),  # the exported graph, its quantised copy, room for a temporary one
    ) as work:
        with _quiet():
            draft = family.convert(base, recipe, work)
        variant = Variant(
            name=name,
            kind=recipe.kind,
            precision=recipe.precision,
            model=origin(base, model),
            space_id=space_id(base, model, settings if draft.own_space else None),
            dimensions=draft.dimensions,
            matryoshka=tuple(sorted({draft.dimensions, *(d for d in model.matryoshka if d < draft.dimensions)})[::-1]),
            max_tokens=draft.max_tokens or model.max_tokens,
            prompts=model.prompts,
            files=draft.files,
            recipe=settings | draft.facts,
            batching=draft.batching,
        )
        record = work / VARIANT_JSON
        record.write_bytes(manifest.canonical(variant.to_json()))
        figures = {"error": draft.fault} if draft.fault else parity.measure(base, work, own_space=draft.own_space)
        if "error" in figures:
            figures["error"] = f"{figures['error']} {draft.caveat}".rstrip()
            warnings.warn(f"convert@{name}: {figures['error']} No gate lets this variant pass.", stacklevel=2)
        record.write_bytes(manifest.canonical(variant.to_json() | {"parity": figures}))
        return Variant.load(work)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what exporters and quantizers log: thousands of lines, a few for every node."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def origin(base: Path, model: Model) -> str:
    """Return what a variant is made of: repository and commit, and the fine-tuning stage that came between, if any."""
    stage = str(manifest.read(base).stage)
    return f"{model.repo}@{model.revision}" + (f"+{stage}" if stage.startswith("finetune@") else "")


def space_id(base: Path, model: Model, own: dict[str, Any] | None) -> str:
    """Return the digest of what defines a vector space: weights, modules, prompts, unit norm, and a recipe of its own.

    Args:
        base: the base model's folder.
        model: its configuration.
        own: the settings of a conversion that leaves the base model's space, else None.
    """
    files = manifest.read(base).hashes
    space = {"files": files, "prompts": model.prompts, "unit_norm": True, "own": own}
    return hashlib.sha256(manifest.canonical(space)).hexdigest()[:16]
