"""LiteRT (TFLite) variants: one graph for each input length, in fp32 or rounded by the recipe's rules.

Every graph is compared with the base model before it is rounded, or with the torch model whose weights were rounded
for it. Exporters that fail silently have been seen: keys reshaped instead of transposed, NaN from masks of -inf, a
window that shrank. In fp32 the least of them shows.
"""

import contextlib
import gc
import io
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from embed_foundry.errors import InputError
from embed_foundry.tflite import Graph, VariantTokenizer, open_tokenizer
from numpy.typing import NDArray

from stages.common.config.variant import TfliteRecipe, TfliteRule
from stages.common.contract.progress import bar
from stages.common.sources import probe_texts
from stages.convert import calibrate, tflite_layers
from stages.convert.conversion import THREADS, ConversionResult
from stages.convert.tokenizer import TOKENIZER, copy_tokenizer, special_ids

PIECES = "tokenizer.model"
# Least cosine of an fp32 graph to the base model. Sound ones reach 0.99999; a window of 128 instead of 256 tokens,
# which moves real models least, 0.999 in long texts.
EXACT = 0.9999
# Every which parity text is compared at every length, beside a short one, and one that fills the length.
STEP = 12


def convert(base: Path, recipe: TfliteRecipe, work: Path) -> ConversionResult:
    """Export and round the model at every length of the recipe; the largest is the variant's limit.

    Raises:
        InputError: the model has modules that are not converted, or the recipe's rounding does not fit it.
    """
    import torch
    from sentence_transformers import SentenceTransformer

    from stages.convert.graph import fixed

    torch.set_num_threads(THREADS)
    lengths = sorted(recipe.lengths)
    files, special = _tokenizer(base, work), special_ids(base)
    tokenizer = open_tokenizer(work, files)
    asked = {length: _inputs(tokenizer, special, length) for length in lengths}
    model = SentenceTransformer(str(base), device="cpu", local_files_only=True, model_kwargs=_eager()).eval()
    if recipe.rounding and recipe.rounding.architecture == model[0].auto_model.config.model_type:
        table = [rule.bits for rule in recipe.rules if rule.operation == "EMBEDDING_LOOKUP"][-1:] == [4]
        tflite_layers.round_model(model, calibrate.token_ids(base), recipe.rounding.four_bit, table=table)
    expected = {length: _reference(model, rows) for length, rows in asked.items()}
    fault = _other_ids(base, tokenizer, special)
    for length in lengths:
        files[f"graph_{length}"] = f"model_{length}.tflite"
        path = work / files[f"graph_{length}"]
        _export(fixed.Fixed(model, length).eval(), length, path)
        found = _vectors(path, length, asked[length])
        worst = float(np.min((found * expected[length]).sum(axis=1)))
        if not worst >= EXACT:  # NaN too
            fault = fault or (
                f"the fp32 graph of {length} tokens has a cosine of {worst:.4f} to the base model, expected at least "
                f"{EXACT}. The exporter computes something else: see stages/convert/graph/fixed.py."
            )
        if recipe.rules:
            quantize(path, recipe.rules)
    return ConversionResult(
        files=files,
        dimensions=int(found.shape[1]),
        facts={"special_ids": special, "vocabulary": _rows(model)},
        batching="single",
        max_tokens=lengths[-1],
        fault=fault,
    )


def quantize(path: Path, rules: list[TfliteRule]) -> None:
    """Round a graph's weights in place; activations follow at run time, one scale a token.

    Args:
        path: an fp32 graph.
        rules: where several match an operation, the last holds.

    Raises:
        InputError: a rule of dequantized_weight_recovery holds for weights that are on no grid.
    """
    from ai_edge_quantizer import qtyping, quantizer

    rounding = quantizer.Quantizer(str(path))
    for rule in rules:
        weights = qtyping.TensorQuantizationConfig(
            num_bits=rule.bits, symmetric=True, granularity=qtyping.QuantGranularity(rule.granularity)
        )
        rounding.update_quantization_recipe(
            regex=rule.regex,
            operation_name=qtyping.TFLOperationName(rule.operation),
            op_config=qtyping.OpQuantizationConfig(
                weight_tensor_config=weights, compute_precision=qtyping.ComputePrecision.INTEGER
            ),
            algorithm_key=rule.algorithm,
        )
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # one of its progress bars has no switch
            made = rounding.quantize(enable_progress_report=False, enable_progress_bar=False)
    except (RuntimeError, ValueError) as error:
        if "Failed to recover" not in str(error):
            raise
        raise InputError(
            "a rule of dequantized_weight_recovery holds for weights that rounding.four_bit does not name. Let both "
            f"name the same layers, as in conf/variant/tflite_mixed.yaml. ai-edge-quantizer: {error}"
        ) from None
    path.write_bytes(made.quantized_model)
    path.chmod(0o644)


def _eager() -> dict[str, Any]:
    """Return how transformers loads the model: attention as plain products, which exporters understand best."""
    import torch

    return {"dtype": torch.float32, "attn_implementation": "eager"}


def _export(module: Any, length: int, path: Path) -> None:  # noqa: ANN401 - torch
    """Trace a module and write its graph, inputs and output named."""
    import torch

    # What it says on stderr as it is imported (of kernels that no graph of ours uses) and as it works.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    os.environ.setdefault("LITERT_TORCH_SHOW_PROGRESS", "n")
    import litert_torch

    ids = torch.zeros((1, length), dtype=torch.int32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch about its own export
        made = litert_torch.convert(module, sample_kwargs={"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    made.export(str(path))
    path.chmod(0o644)
    del made
    gc.collect()  # it is in reference cycles, of gigabytes


def _tokenizer(base: Path, work: Path) -> dict[str, str]:
    """Copy the tokenizer and return role to file name: SentencePiece's own file, where there is one."""
    if not (base / PIECES).is_file():
        return copy_tokenizer(base, work)
    (work / PIECES).write_bytes((base / PIECES).read_bytes())
    return {"sentencepiece": PIECES}


def _other_ids(base: Path, tokenizer: VariantTokenizer, special: tuple[list[int], list[int]]) -> str:
    """Return which parity text the variant's tokenizer gives other ids than the base model's; "" if none."""
    from tokenizers import Tokenizer

    whole = Tokenizer.from_file(str(base / TOKENIZER))
    whole.no_padding()
    whole.no_truncation()
    probes = probe_texts.texts()
    for text, ids in zip(probes, tokenizer.encode(probes), strict=True):
        if [*special[0], *ids, *special[1]] != whole.encode(text).ids:
            return f"{PIECES} and {TOKENIZER} give different ids to {text!r}. Use the files of one model."
    return ""


def _inputs(tokenizer: VariantTokenizer, special: tuple[list[int], list[int]], length: int) -> list[list[int]]:
    """Return the rows of ids that a graph is compared on: a short one, one that fills it, several languages."""
    before, after = special
    probes = probe_texts.texts()
    long = (tokenizer.encode([" ".join(probes)])[0] * length)[: length - len(before) - len(after)]
    rows = [*tokenizer.encode([probe_texts.SHORT, *probes[::STEP]]), long]
    return [[*before, *row[: length - len(before) - len(after)], *after] for row in rows]


def _reference(model: Any, rows: list[list[int]]) -> NDArray[np.float32]:  # noqa: ANN401
    """Return the base model's vectors of rows of ids, by its own modules: float32 [n, d], unit norm."""
    import torch

    vectors = []
    for row in rows:
        ids = torch.tensor([row])
        with torch.no_grad():
            vector = model({"input_ids": ids, "attention_mask": torch.ones_like(ids)})["sentence_embedding"]
        vectors.append(torch.nn.functional.normalize(vector, dim=-1)[0].numpy())
    return np.stack(vectors)


def _vectors(path: Path, length: int, rows: list[list[int]]) -> NDArray[np.float32]:
    graph = Graph(path, length, THREADS)
    with bar(f"convert: graph of {length} tokens against the base model", len(rows)) as shown:
        vectors = []
        for row in rows:
            vectors.append(graph(row, 0))
            shown.update(1)
    return np.stack(vectors)


def _rows(model: Any) -> int:  # noqa: ANN401
    """Return how many token ids the model knows."""
    return int(model[0].auto_model.get_input_embeddings().weight.shape[0])
