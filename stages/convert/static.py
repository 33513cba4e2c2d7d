"""Static variants (Model2Vec): the base model's output for every token in one table, fitted to its vectors of texts."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from embed_foundry import manifest
from embed_foundry.encoders.vectors import Vectors
from embed_foundry.errors import InputError

from stages.common.config.variant import StaticFit, StaticRecipe
from stages.common.sources import aws, corpus, probe_texts
from stages.convert import calibration, ridge
from stages.convert.base_vectors import BaseModelVectors
from stages.convert.conversion import GRAPH_LIBRARIES, THREADS, ConversionResult, Folders
from stages.convert.intermediate import load_or_make
from stages.convert.tokenizer import TOKENIZER, BaseTokenizer, load_tokenizer
from stages.convert.vocabulary import Vocabulary, prune_vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LIBRARIES = ("model2vec", "openvino", "scikit-learn", "tokenizers", *GRAPH_LIBRARIES)
TABLE, TEXTS = "table.safetensors", "texts.json"
# model2vec's names for what we call int8 and fp32.
PRECISIONS = {"int8": "int8", "fp32": "float32"}
# How many of the texts that a table is fitted to are counted in tokens, beside the parity texts of many languages.
LENGTH_TEXTS = 1000


def convert(folders: Folders, recipe: StaticRecipe) -> ConversionResult:
    """Prune, distil, fit or reduce by PCA, weight by SIF, quantise; the result runs on numpy and tokenizers alone.

    Raises:
        InputError: the base model has fewer dimensions than the recipe, or a tokenizer that cannot be pruned, or the
            texts cannot be read.
    """
    from model2vec.quantization import DType, quantize_embeddings
    from safetensors.numpy import save_file
    from threadpoolctl import threadpool_limits

    base, work = folders.base, folders.work
    texts = _load_texts(recipe.fit, folders.cache) if recipe.fit else []
    tokenizer = load_tokenizer(base, folders.cache)
    vocabulary = prune_vocabulary(tokenizer.path, recipe.vocabulary, texts)
    with threadpool_limits(THREADS):
        encoder = BaseModelVectors(base, folders.cache)
        if recipe.dimensions > encoder.dimensions:
            raise InputError(
                f"static: dimensions {recipe.dimensions} exceeds the model's {encoder.dimensions}. Lower it."
            )
        special = tokenizer.read_special_ids()
        table = encoder.encode([special.wrap([token]) for token in vocabulary.kept], "tokens")
        if recipe.fit:
            tokens, vectors = _encode_texts(tokenizer, texts, recipe.fit, vocabulary, encoder)
            table = _fit_table(table, tokens, vectors, recipe, recipe.fit.ridge)
        else:
            table = _distil(table, recipe)
        table = quantize_embeddings(table, DType(PRECISIONS[recipe.precision]))
    save_file({"embeddings": np.ascontiguousarray(table)}, work / TABLE)
    _open_tokenizer(vocabulary).save(str(work / TOKENIZER), pretty=False)
    return ConversionResult(
        files={"table": TABLE, "tokenizer": TOKENIZER},
        dimensions=int(table.shape[1]),
        recipe_entries={"unknown_id": vocabulary.unknown, "by_word": vocabulary.by_word, "tokens": len(table)},
        own_space=True,
        tokens_per_token=_compare_lengths(tokenizer, vocabulary, [*probe_texts.read_texts(), *texts[:LENGTH_TEXTS]]),
    )


def _compare_lengths(tokenizer: BaseTokenizer, vocabulary: Vocabulary, texts: list[str]) -> float:
    """Return the most tokens that a smaller vocabulary makes of a token of the base model's, at least 1.

    A table has no positions: its limit only keeps it from texts that the base model does not see. Counted in more
    tokens, the same limit would cut texts that the base model sees whole.
    """
    own, base = _open_tokenizer(vocabulary), tokenizer.open()
    counts = zip(own.encode_batch_fast(texts, add_special_tokens=False), base.encode_batch_fast(texts), strict=True)
    return max(1, *(len(mine.ids) / len(whole.ids) for mine, whole in counts))


def _load_texts(fit: StaticFit, cache: Path) -> list[str]:
    """Return the texts to fit the table to; the packages' own, which take ten seconds to read, come from the cache."""
    if fit.file:
        return corpus.sample_texts(Path(fit.file), fit.texts)
    folder = load_or_make(
        cache,
        "texts",
        {"texts": fit.texts},
        code=[Path(corpus.__file__), Path(aws.__file__)],
        libraries=["botocore", "gensim"],
        make=lambda work: (work / TEXTS).write_bytes(manifest.canonical(corpus.sample_texts(None, fit.texts))),
    )
    texts: list[str] = json.loads((folder / TEXTS).read_bytes())
    return texts


def _distil(table: Vectors, recipe: StaticRecipe) -> Vectors:
    """Return model2vec's own distillation of the base model's vector of each token, [v, d]: [v, dimensions]."""
    from model2vec.distill.inference import apply_pca, compute_weights

    weights = compute_weights(len(table), sif_coefficient=recipe.sif_coefficient)
    distilled: Vectors = apply_pca(table, recipe.dimensions) * weights[:, None]
    return distilled


def _open_tokenizer(vocabulary: Vocabulary) -> "Tokenizer":
    from tokenizers import Tokenizer

    return Tokenizer.from_str(vocabulary.tokenizer)


def _encode_texts(
    tokenizer: BaseTokenizer, texts: list[str], fit: StaticFit, vocabulary: Vocabulary, encoder: BaseModelVectors
) -> tuple[list[list[int]], Vectors]:
    """Return the table's tokens of each text, and the base model's vectors of the same texts [n, d].

    Unknown tokens are left out, and so are texts that have no other.
    """
    encodings = _open_tokenizer(vocabulary).encode_batch_fast(texts, add_special_tokens=False)
    tokens = [[token for token in encoding.ids if token != vocabulary.unknown] for encoding in encodings]
    prompt = tokenizer.settings.prompts.get(fit.prompt or "", "")
    prompted = [prompt + text for text, row in zip(texts, tokens, strict=True) if row]
    rows = tokenizer.tokenize(prompted, calibration.MAX_TOKENS)
    return [row for row in tokens if row], encoder.encode(rows, "texts", tokenizer.count_prompt(prompt))


def _fit_table(
    table: Vectors, tokens: list[list[int]], vectors: Vectors, recipe: StaticRecipe, penalty: float
) -> Vectors:
    """Return the distilled table after fitting it to the base model's vectors of texts: [v, dimensions].

    Args:
        table: the base model's vector of each token, [v, d].
        tokens: rows of the table for each text.
        vectors: the base model's vector of each text, [n, d].
        recipe: dimensions and SIF weights.
        penalty: the ridge penalty.
    """
    targets = _center(vectors.astype(np.float64))
    axes = ridge.find_principal_directions(targets, recipe.dimensions)
    weights = recipe.sif_coefficient / (recipe.sif_coefficient + ridge.compute_token_shares(tokens, len(table)))
    start = _center(table.astype(np.float64)) @ axes * weights[:, None]
    return ridge.fit_table(start, tokens, _normalize(targets @ axes), penalty).astype(np.float32)


def _center(rows: ridge.Matrix) -> ridge.Matrix:
    """Return rows of unit norm without what all have in common, which averages of many tokens would amplify."""
    unit = _normalize(rows)
    return _normalize(unit - unit.mean(axis=0))


def _normalize(rows: ridge.Matrix) -> ridge.Matrix:
    """Return rows of unit norm; a row of zeros stays one."""
    unit: ridge.Matrix = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return unit
