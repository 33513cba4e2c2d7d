"""LiteRT (TFLite) variants: one graph for each input length, in fp32 or rounded by the recipe's rules.

Every graph is compared, before it is rounded, with the base model, or with the torch model whose weights were rounded
for it. Exporters have failed silently: keys reshaped instead of transposed, NaN from masks of -inf, a window that
shrank. In fp32 even the smallest of these errors shows.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from embed_foundry.encoders.tflite import Graph, VariantTokenizer
from embed_foundry.encoders.vectors import Vectors
from embed_foundry.progress import bar

from stages.common.config.variant import TfliteRecipe
from stages.common.sources import probe_texts
from stages.convert import calibration
from stages.convert.conversion import MODEL_LIBRARIES, THREADS, ConversionResult, Folders
from stages.convert.graph import SENTENCE
from stages.convert.piece_tokenizer import write_tokenizer
from stages.convert.rounding.rules import apply_rules
from stages.convert.tokenizer import BaseTokenizer, SpecialIds, load_tokenizer

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

LIBRARIES = (
    "ai-edge-litert",
    "ai-edge-quantizer",
    "litert-converter",
    "litert-torch",
    "sentencepiece",
    *MODEL_LIBRARIES,
)
# Least cosine of an fp32 graph to the base model. Sound ones reach 0.99999; a window of 128 instead of 256 tokens,
# the error that moves real models least, gives 0.999 in long texts.
COSINE_MIN = 0.9999
# Every twelfth probe text is compared at every length, beside a short one, and one that fills the length.
PROBE_STEP = 12


def convert(folders: Folders, recipe: TfliteRecipe) -> ConversionResult:
    """Export and round the model at every length of the recipe; the largest is the variant's limit.

    Raises:
        InputError: litert-torch cannot convert the model, or the recipe's rounding does not fit it.
    """
    import torch

    from stages.convert.graph.fixed import Fixed
    from stages.convert.graph.litert_export import export_litert

    torch.set_num_threads(THREADS)
    base, work = folders.base, folders.work
    base_tokenizer = load_tokenizer(base, folders.cache)
    special = base_tokenizer.read_special_ids()
    written = write_tokenizer(base, base_tokenizer, work)
    files, fault, lengths = dict(written.files), "", sorted(recipe.lengths)
    probes = {length: build_probes(written.tokenizer, special, length) for length in lengths}
    model = load_model(base)
    round_before_export(model, base_tokenizer, recipe)
    expected = {length: encode_by_model(model, rows) for length, rows in probes.items()}  # an export changes the model
    for length in lengths:
        role, file = f"graph_{length}", f"model_{length}.tflite"
        files[role] = file
        export_litert(Fixed(model, length).eval(), length, work / file)
        vectors = _encode_by_graph(work / file, length, probes[length])
        fault = fault or compare_graph(length, vectors, expected[length])
        if recipe.rules:
            apply_rules(work / file, recipe.rules)
    return ConversionResult(
        files=files,
        dimensions=int(vectors.shape[1]),
        recipe_entries=written.describe(special),
        batching="single",
        exact=not recipe.rules,
        max_tokens=lengths[-1],
        fault=fault,
    )


def load_model(base: Path) -> "SentenceTransformer":
    """Load the model with attention as plain products, which exporters understand best."""
    import torch
    from sentence_transformers import SentenceTransformer

    options = {"dtype": torch.float32, "attn_implementation": "eager"}
    return SentenceTransformer(str(base), device="cpu", local_files_only=True, model_kwargs=options).eval()


def round_before_export(model: "SentenceTransformer", tokenizer: BaseTokenizer, recipe: TfliteRecipe) -> None:
    """Round the model's layers in place, if the recipe does so for its architecture."""
    from stages.convert.rounding.gemma3 import round_model
    from stages.convert.rounding.layers import EIGHT_BIT, Grid

    if recipe.rounding and recipe.rounding.architecture == model[0].auto_model.config.model_type:
        tables = [Grid(rule.bits, rule.block) for rule in recipe.rules if rule.operation == "EMBEDDING_LOOKUP"]
        rows = calibration.load_token_ids(tokenizer)
        round_model(model, rows, recipe.rounding.four_bit, tables[-1] if tables else EIGHT_BIT)


def compare_graph(length: int, vectors: Vectors, expected: Vectors) -> str:
    """Return how far the fp32 graph of one length is from the model, if that is too far, else ""."""
    cosine = float(np.min((vectors * expected).sum(axis=1)))
    if cosine >= COSINE_MIN:  # not so if it is NaN
        return ""
    return (
        f"the fp32 graph of {length} tokens has a cosine of {cosine:.4f} to the base model, expected at least "
        f"{COSINE_MIN}. The exporter computes something else: see stages/convert/graph/fixed.py."
    )


def build_probes(tokenizer: VariantTokenizer, special: SpecialIds, length: int) -> list[list[int]]:
    """Return the rows of ids that a graph is compared on: a short one, one that fills it, several languages."""
    texts = probe_texts.read_texts()
    content = length - len(special.before) - len(special.after)
    filling = tokenizer.encode([" ".join(texts)])[0] * length
    rows = [*tokenizer.encode([probe_texts.SHORT, *texts[::PROBE_STEP]]), filling]
    return [special.wrap(row[:content]) for row in rows]


def encode_by_model(model: "SentenceTransformer", rows: list[list[int]]) -> Vectors:
    """Return the model's vectors of rows of ids, by its own modules: float32 [n, d], unit norm."""
    import torch

    vectors = []
    for row in rows:
        ids = torch.tensor([row])
        with torch.no_grad():
            vector = model({"input_ids": ids, "attention_mask": torch.ones_like(ids)})[SENTENCE]
        vectors.append(torch.nn.functional.normalize(vector, dim=-1)[0].numpy())
    return np.stack(vectors)


def _encode_by_graph(path: Path, length: int, rows: list[list[int]]) -> Vectors:
    graph = Graph(path, length, THREADS)
    vectors = []
    with bar(f"convert: graph of {length} tokens against the base model", len(rows)) as progress:
        for row in rows:
            vectors.append(graph(row, 0))
            progress.update(1)
    return np.stack(vectors)
