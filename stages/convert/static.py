"""Static variants: Model2Vec distils the base model's output for every token into one table, fitted to whole texts."""

from pathlib import Path
from typing import Any

import numpy as np
from embed_foundry.errors import InputError

from stages.common import corpus
from stages.common.intake import read_json
from stages.common.progress import bar
from stages.common.recipes import StaticFit, StaticVariant
from stages.convert import THREADS, Draft, ridge

TABLE = "table.safetensors"
TOKENIZER = "tokenizer.json"
# model2vec's names for what we call int8 and fp32.
PRECISIONS = {"int8": "int8", "fp32": "float32"}
# Texts that the model encodes between two steps of the progress bar.
CHUNK = 512


def convert(base: Path, recipe: StaticVariant, work: Path) -> Draft:
    """Distil, fit or reduce by PCA, weight by SIF, quantise; the result runs on numpy and tokenizers alone.

    Raises:
        InputError: the base model has Dense heads (model2vec would silently skip them), fewer dimensions than asked, or
            the texts cannot be read.
    """
    import torch
    from model2vec.distill import distill_from_model
    from model2vec.quantization import DType, quantize_embeddings
    from safetensors.numpy import save_file
    from threadpoolctl import threadpool_limits
    from transformers import AutoModel, AutoTokenizer

    modules = read_json(base / "modules.json")
    if heads := [module["path"] for module in modules if module["type"].endswith("Dense")]:
        raise InputError(f"{base}: has heads {heads}, which Model2Vec would skip. Leave static out of `variant`.")
    torch.set_num_threads(THREADS)
    encoder = AutoModel.from_pretrained(str(base), local_files_only=True)
    if recipe.dimensions > encoder.config.hidden_size:
        raise InputError(
            f"static: dimensions {recipe.dimensions} exceeds the model's {encoder.config.hidden_size}. Lower it."
        )
    with threadpool_limits(THREADS):
        model = distill_from_model(
            model=encoder,
            tokenizer=AutoTokenizer.from_pretrained(str(base), local_files_only=True),
            device="cpu",
            pca_dims=None if recipe.fit else recipe.dimensions,
            sif_coefficient=None if recipe.fit else recipe.sif_coefficient,
            quantize_to="float32",
        )
        table = _fitted(base, recipe, recipe.fit, model) if recipe.fit else model.embedding
        table = quantize_embeddings(table, DType(PRECISIONS[recipe.precision]))
    save_file({"embeddings": np.ascontiguousarray(table)}, work / TABLE)
    model.tokenizer.save(str(work / TOKENIZER), pretty=False)
    return Draft(
        files={"table": TABLE, "tokenizer": TOKENIZER},
        dimensions=int(table.shape[1]),
        facts={"unknown_id": model.unk_token_id},
        own_space=True,
    )


def _fitted(base: Path, recipe: StaticVariant, fit: StaticFit, model: Any) -> Any:  # noqa: ANN401 - model2vec's
    """Return the distilled table after fitting it to the base model's vectors of the texts: float32 [v, dimensions]."""
    texts = corpus.texts(Path(fit.file) if fit.file else None, fit.texts)
    model.tokenizer.no_padding()
    model.tokenizer.no_truncation()
    rows = [
        [token for token in encoding.ids if token != model.unk_token_id]
        for encoding in model.tokenizer.encode_batch(texts, add_special_tokens=False)
    ]
    known = [at for at, row in enumerate(rows) if row]
    tokens = [rows[at] for at in known]
    teacher = _unit(_taught(base, [texts[at] for at in known]))
    axes = ridge.directions(teacher, recipe.dimensions)
    frequency = ridge.frequencies(tokens, len(model.embedding))
    weights = recipe.sif_coefficient / (recipe.sif_coefficient + frequency)
    table = _unit(model.embedding.astype(np.float64)) @ axes * weights[:, None]
    return ridge.fitted(table, tokens, _unit(teacher @ axes), fit.ridge).astype(np.float32)


def _taught(base: Path, texts: list[str]) -> Any:  # noqa: ANN401
    """Return the base model's vectors of the texts, float64 [n, d]."""
    from sentence_transformers import SentenceTransformer

    teacher = SentenceTransformer(str(base), device="cpu", local_files_only=True)
    order = sorted(range(len(texts)), key=lambda at: (len(texts[at]), at))
    vectors = np.empty((len(texts), int(teacher.get_embedding_dimension() or 0)))
    with bar("convert: texts that the table is fitted to", len(texts)) as shown:
        for start in range(0, len(order), CHUNK):
            at = order[start : start + CHUNK]
            vectors[at] = teacher.encode([texts[one] for one in at], batch_size=32, show_progress_bar=False)
            shown.update(len(at))
    return vectors


def _unit(rows: Any) -> Any:  # noqa: ANN401
    """Return rows of unit norm; a row of zeros stays one."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
