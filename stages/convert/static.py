"""Static variants (Model2Vec): the base model's output for every token in one table, fitted to its vectors of texts."""

import tempfile
from pathlib import Path

import numpy as np
from embed_foundry import manifest
from embed_foundry.errors import InputError
from numpy.typing import NDArray

from stages.common.config.variant import StaticFit, StaticRecipe
from stages.common.sources import corpus
from stages.convert import calibrate, ridge, vocabulary
from stages.convert.conversion import THREADS, ConversionResult
from stages.convert.teacher import Teacher
from stages.convert.tokenizer import TOKENIZER, special_ids

TABLE = "table.safetensors"
# model2vec's names for what we call int8 and fp32.
PRECISIONS = {"int8": "int8", "fp32": "float32"}


def convert(base: Path, recipe: StaticRecipe, work: Path) -> ConversionResult:
    """Prune, distil, fit or reduce by PCA, weight by SIF, quantise; the result runs on numpy and tokenizers alone.

    Raises:
        InputError: the base model has fewer dimensions than asked, or another kind of tokenizer, or the texts cannot be
            read.
    """
    from model2vec.distill.inference import apply_pca, compute_weights
    from model2vec.quantization import DType, quantize_embeddings
    from safetensors.numpy import save_file
    from threadpoolctl import threadpool_limits
    from tokenizers import Tokenizer

    texts = corpus.texts(Path(recipe.fit.file) if recipe.fit.file else None, recipe.fit.texts) if recipe.fit else []
    chosen = vocabulary.pruned(base / TOKENIZER, recipe.vocabulary, texts)
    tokenizer = Tokenizer.from_str(manifest.canonical(chosen.tokenizer).decode())
    with threadpool_limits(THREADS), tempfile.TemporaryDirectory(dir=work) as scratch:
        model = Teacher(base, Path(scratch))
        if recipe.dimensions > model.dimensions:
            raise InputError(
                f"static: dimensions {recipe.dimensions} exceeds the model's {model.dimensions}. Lower it."
            )
        first, last = special_ids(base)
        table = model.vectors([[*first, token, *last] for token in chosen.kept], "tokens")
        if recipe.fit:
            rows = [
                [token for token in item.ids if token != chosen.unknown]
                for item in tokenizer.encode_batch_fast(texts, add_special_tokens=False)
            ]
            known = [at for at, row in enumerate(rows) if row]
            before = calibrate.prompts(base).get(recipe.fit.prompt or "", "")
            asked = calibrate.encoded(base, [before + texts[at] for at in known])
            table = _fitted(recipe, recipe.fit, table, [rows[at] for at in known], model.vectors(asked, "texts"))
        else:
            weights = compute_weights(len(table), sif_coefficient=recipe.sif_coefficient)
            table = apply_pca(table, recipe.dimensions) * weights[:, None]
        table = quantize_embeddings(table, DType(PRECISIONS[recipe.precision]))
    save_file({"embeddings": np.ascontiguousarray(table)}, work / TABLE)
    tokenizer.save(str(work / TOKENIZER), pretty=False)
    return ConversionResult(
        files={"table": TABLE, "tokenizer": TOKENIZER},
        dimensions=int(table.shape[1]),
        facts={"unknown_id": chosen.unknown, "by_word": chosen.by_word, "tokens": len(table)},
        own_space=True,
    )


def _fitted(
    recipe: StaticRecipe,
    fit: StaticFit,
    table: NDArray[np.float32],
    tokens: list[list[int]],
    vectors: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return the distilled table after fitting it to the model's vectors of texts of these tokens: [v, dimensions]."""
    teacher = _centred(vectors.astype(np.float64))
    axes = ridge.directions(teacher, recipe.dimensions)
    weights = recipe.sif_coefficient / (recipe.sif_coefficient + ridge.frequencies(tokens, len(table)))
    start = _centred(table.astype(np.float64)) @ axes * weights[:, None]
    return ridge.fitted(start, tokens, _unit(teacher @ axes), fit.ridge).astype(np.float32)


def _centred(rows: ridge.Matrix) -> ridge.Matrix:
    """Return directions of unit norm without what all have in common, which averages of many tokens would amplify."""
    unit = _unit(rows)
    return _unit(unit - unit.mean(axis=0))


def _unit(rows: ridge.Matrix) -> ridge.Matrix:
    """Return rows of unit norm; a row of zeros stays one."""
    unit: ridge.Matrix = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return unit
