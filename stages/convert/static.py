"""Static variants (Model2Vec): the base model's output for every token in one table, fitted to its vectors of texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from embed_foundry import manifest
from embed_foundry.errors import InputError
from numpy.typing import NDArray

from stages.common import corpus
from stages.common.progress import bar
from stages.common.recipes import StaticFit, StaticVariant
from stages.convert import THREADS, Draft, ridge, vocabulary
from stages.convert.tokenizer import TOKENIZER

TABLE = "table.safetensors"
# model2vec's names for what we call int8 and fp32.
PRECISIONS = {"int8": "int8", "fp32": "float32"}
# Tokens that the model is given at once, each between its special tokens; texts between two steps of the progress bar.
TOKENS, CHUNK = 256, 512


def convert(base: Path, recipe: StaticVariant, work: Path) -> Draft:
    """Prune, distil, fit or reduce by PCA, weight by SIF, quantise; the result runs on numpy and tokenizers alone.

    Raises:
        InputError: the base model has fewer dimensions than asked, or another kind of tokenizer, or the texts cannot be
            read.
    """
    import torch
    from model2vec.distill.inference import apply_pca, compute_weights
    from model2vec.quantization import DType, quantize_embeddings
    from safetensors.numpy import save_file
    from sentence_transformers import SentenceTransformer
    from threadpoolctl import threadpool_limits
    from tokenizers import Tokenizer

    torch.set_num_threads(THREADS)
    model = SentenceTransformer(str(base), device="cpu", local_files_only=True)
    width = int(model.get_embedding_dimension() or 0)
    if recipe.dimensions > width:
        raise InputError(f"static: dimensions {recipe.dimensions} exceeds the model's {width}. Lower it.")
    texts = corpus.texts(Path(recipe.fit.file) if recipe.fit.file else None, recipe.fit.texts) if recipe.fit else []
    chosen = vocabulary.pruned(base / TOKENIZER, recipe.vocabulary, texts)
    tokenizer = Tokenizer.from_str(manifest.canonical(chosen.tokenizer).decode())
    with threadpool_limits(THREADS):
        table = distilled(model, chosen.kept)
        if recipe.fit:
            rows = [
                [token for token in item.ids if token != chosen.unknown]
                for item in tokenizer.encode_batch_fast(texts, add_special_tokens=False)
            ]
            table = _fitted(model, recipe, recipe.fit, table, rows, texts)
        else:
            weights = compute_weights(len(table), sif_coefficient=recipe.sif_coefficient)
            table = apply_pca(table, recipe.dimensions) * weights[:, None]
        table = quantize_embeddings(table, DType(PRECISIONS[recipe.precision]))
    save_file({"embeddings": np.ascontiguousarray(table)}, work / TABLE)
    tokenizer.save(str(work / TOKENIZER), pretty=False)
    return Draft(
        files={"table": TABLE, "tokenizer": TOKENIZER},
        dimensions=int(table.shape[1]),
        facts={"unknown_id": chosen.unknown, "by_word": chosen.by_word, "tokens": len(table)},
        own_space=True,
    )


def distilled(model: Any, tokens: Sequence[int]) -> NDArray[np.float32]:  # noqa: ANN401 - a SentenceTransformer
    """Return the model's output for each token alone between its special tokens, heads included: [n, d], any norm."""
    import torch
    from sentence_transformers.sentence_transformer.modules import Normalize

    mask = model.tokenizer("a", return_special_tokens_mask=True)
    ids, special = mask["input_ids"], mask["special_tokens_mask"]
    before, after = ids[: special.index(0)], ids[len(special) - special[::-1].index(0) :]
    rows = np.empty((len(tokens), int(model.get_embedding_dimension())), dtype=np.float32)
    with bar("convert: tokens that the model is asked for", len(tokens)) as shown, torch.inference_mode():
        for start in range(0, len(tokens), TOKENS):
            at = torch.tensor([[*before, token, *after] for token in tokens[start : start + TOKENS]])
            features = {"input_ids": at, "attention_mask": torch.ones_like(at)}
            for module in model:
                features = features if isinstance(module, Normalize) else module(features)
            rows[start : start + TOKENS] = features["sentence_embedding"].numpy()
            shown.update(len(at))
    return rows


def _fitted(
    model: Any,  # noqa: ANN401
    recipe: StaticVariant,
    fit: StaticFit,
    table: NDArray[np.float32],
    rows: list[list[int]],
    texts: list[str],
) -> NDArray[np.float32]:
    """Return the distilled table after fitting it to the model's vectors of the texts: float32 [v, dimensions]."""
    known = [at for at, row in enumerate(rows) if row]
    tokens = [rows[at] for at in known]
    teacher = _centred(_taught(model, [texts[at] for at in known], fit.prompt))
    axes = ridge.directions(teacher, recipe.dimensions)
    frequency = ridge.frequencies(tokens, len(table))
    weights = recipe.sif_coefficient / (recipe.sif_coefficient + frequency)
    start = _centred(table.astype(np.float64)) @ axes * weights[:, None]
    return ridge.fitted(start, tokens, _unit(teacher @ axes), fit.ridge).astype(np.float32)


def _taught(model: Any, texts: list[str], prompt: str | None) -> ridge.Matrix:  # noqa: ANN401
    """Return the model's vectors of the texts, float64 [n, d], each text under a prompt that it may have."""
    before = model.prompts.get(prompt or "")
    order = sorted(range(len(texts)), key=lambda at: (len(texts[at]), at))
    vectors = np.empty((len(texts), int(model.get_embedding_dimension())))
    with bar("convert: texts that the table is fitted to", len(texts)) as shown:
        for start in range(0, len(order), CHUNK):
            at = order[start : start + CHUNK]
            vectors[at] = model.encode(
                [texts[one] for one in at], prompt=before, batch_size=32, show_progress_bar=False
            )
            shown.update(len(at))
    return vectors


def _centred(rows: ridge.Matrix) -> ridge.Matrix:
    """Return directions of unit norm without what all have in common, which averages of many tokens would amplify."""
    unit = _unit(rows)
    return _unit(unit - unit.mean(axis=0))


def _unit(rows: ridge.Matrix) -> ridge.Matrix:
    """Return rows of unit norm; a row of zeros stays one."""
    unit: ridge.Matrix = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return unit
