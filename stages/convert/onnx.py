"""ONNX variants: optimum's export with pooling, heads and unit norm in the graph, optionally quantised to int8."""

import logging
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

from embed_foundry.errors import InputError

from stages.common.config import OnnxQuantize, OnnxVariant
from stages.convert import THREADS, Draft

GRAPH = "model.onnx"
TOKENIZER = "tokenizer.json"
TOKENS = "last_hidden_state"
SENTENCE = "sentence_embedding"


def convert(base: Path, recipe: OnnxVariant, work: Path) -> Draft:
    """Export the SentenceTransformer to one graph: int64 input_ids, attention_mask [b, s] -> two named float32 outputs.

    Raises:
        InputError: optimum cannot export this architecture; the message carries its reason.
    """
    import onnx

    with tempfile.TemporaryDirectory(dir=work) as scratch:
        graph = _export(base, Path(scratch), recipe.opset)
        dimensions = _name_outputs(graph, base)
        exported = Path(scratch, "named.onnx")
        onnx.save(graph, exported)
        if recipe.quantize is None:
            shutil.copyfile(exported, work / GRAPH)
        else:
            _quantize(exported, work / GRAPH, recipe.quantize)
    shutil.copyfile(base / TOKENIZER, work / TOKENIZER)
    return Draft(files={"graph": GRAPH, "tokenizer": TOKENIZER}, dimensions=dimensions)


def _export(base: Path, scratch: Path, opset: int) -> Any:  # noqa: ANN401 - onnx has no types
    import onnx
    import torch
    from optimum.exporters.onnx import main_export

    torch.set_num_threads(THREADS)
    warnings.simplefilter("ignore", torch.jit.TracerWarning)  # parity decides whether the trace generalises
    try:
        main_export(
            str(base),
            str(scratch),
            task="feature-extraction",
            library_name="sentence_transformers",
            do_validation=False,  # parity.measure compares far more than optimum's random inputs
            opset=opset,
        )
    except (ValueError, KeyError, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{base}: optimum cannot export it to ONNX ({error}). Leave ONNX out of `variant`.") from error
    return onnx.load(str(scratch / "model.onnx"))


def _name_outputs(graph: Any, base: Path) -> int:  # noqa: ANN401
    """Give both outputs their contract names and shapes, in place; return the sentence vector's length."""
    from sentence_transformers import SentenceTransformer

    dimensions = int(SentenceTransformer(str(base), device="cpu", local_files_only=True).get_embedding_dimension())
    outputs = {item.name: item for item in graph.graph.output}
    for node in graph.graph.node:
        for names in (node.input, node.output):
            for at, name in enumerate(names):
                if name == "token_embeddings":
                    names[at] = TOKENS
    outputs["token_embeddings"].name = TOKENS
    shape = outputs[SENTENCE].type.tensor_type.shape.dim
    shape[1].ClearField("dim_param")
    shape[1].dim_value = dimensions
    return dimensions


def _quantize(source: Path, target: Path, settings: OnnxQuantize) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)  # it asks for pre-processing, which static quantization needs
    quantize_dynamic(
        source,
        target,
        op_types_to_quantize=settings.operators,
        per_channel=settings.per_channel,
        reduce_range=settings.reduce_range,
        weight_type=QuantType.QInt8,
    )
