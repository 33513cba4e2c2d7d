"""The export to ONNX: the whole SentenceTransformer, traced by torch.export; or by optimum, where a recipe says so."""

import ast
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from embed_foundry import manifest
from embed_foundry.errors import InputError

from stages.common.config.variant import Exporter
from stages.convert.conversion import GRAPH_LIBRARIES, THREADS, first_line, measure_dimensions
from stages.convert.graph import rewrites
from stages.convert.graph.onnx_model import GRAPH, PROMPT_LENGTH, SENTENCE, TOKENS, save
from stages.convert.graph.optimum_export import export_by_optimum
from stages.convert.intermediate import load_or_make

if TYPE_CHECKING:
    from onnx import ModelProto
    from sentence_transformers import SentenceTransformer

# Tokens of the text that is traced. Gemma3's windows in blocks take another path from 512 tokens on.
TRACED_TOKENS = 700
# The graph's names of the two axes that take any size.
AXES = ("batch", "length")


def export(base: Path, opset: int, cache: Path, exporter: Exporter = "torch") -> Path:
    """Return the graph's file of a SentenceTransformer folder: both outputs named, nodes named after their modules.

    Args:
        base: the verified folder.
        opset: ONNX operator set.
        cache: a folder for graphs, which later calls take from there (EmbeddingGemma: a minute); read them only.
        exporter: what writes the graph.

    Raises:
        InputError: the architecture cannot be exported; the message carries the exporter's reason.
        RetryableError: optimum's environment cannot be installed.
    """
    folder = load_or_make(
        cache,
        "graph",
        {"base": manifest.read(base).digest, "opset": opset, "exporter": exporter},
        code=[Path(__file__).parent],
        libraries=GRAPH_LIBRARIES,
        make=lambda work: save(_export(base, opset, cache, exporter), work / GRAPH),
    )
    return folder / GRAPH


def _export(base: Path, opset: int, cache: Path, exporter: Exporter) -> "ModelProto":
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(THREADS)
    options = {"dtype": torch.float32, "attn_implementation": "eager"}
    model = SentenceTransformer(str(base), device="cpu", local_files_only=True, model_kwargs=options).eval()
    dimensions = measure_dimensions(model)
    if exporter == "optimum":
        with tempfile.TemporaryDirectory() as scratch:
            exported = export_by_optimum(base, opset, Path(scratch), cache)
    else:
        exported = _export_by_torch(base, model, opset)
    rewrites.split_linear_layers(exported)
    _normalize_names(exported, dimensions)
    return exported


def _export_by_torch(base: Path, model: "SentenceTransformer", opset: int) -> "ModelProto":
    try:
        return _trace(model, opset)
    except (AttributeError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise InputError(
            f"{base}: it cannot be exported to ONNX ({first_line(error)}). "
            "Leave onnx and openvino variants out of `variant`."
        ) from error


def _trace(model: "SentenceTransformer", opset: int) -> "ModelProto":
    """Return the model's graph for any batch and any length that its positions allow."""
    import torch

    from stages.convert.graph.sentence import Sentence

    sentence = Sentence(model).eval()
    length = min(TRACED_TOKENS, model.get_max_seq_length() or TRACED_TOKENS)
    vocabulary = int(model[0].auto_model.get_input_embeddings().weight.shape[0])
    inputs = [torch.arange(2, 2 + 2 * length).reshape(2, length) % vocabulary, torch.ones(2, length, dtype=torch.int64)]
    inputs[1][1, length // 2 :] = 0
    axes = [{0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC} for _ in inputs]
    names = ["input_ids", "attention_mask"]
    if not sentence.pools_prompt:
        inputs.append(torch.tensor([1, 2]))
        axes.append({0: torch.export.Dim.DYNAMIC})
        names.append(PROMPT_LENGTH)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(sentence, tuple(inputs), dynamic_shapes=tuple(axes), strict=False)
        exported = torch.onnx.export(
            program,
            input_names=names,
            output_names=[TOKENS, SENTENCE],
            opset_version=opset,
            dynamo=True,
            verbose=False,
        )
    return exported.model_proto


def _normalize_names(model: "ModelProto", dimensions: int) -> None:
    """Give nodes the names that recipes use, and drop what tells where the graph was made."""
    for node in model.graph.node:
        scopes = {entry.key: entry.value for entry in node.metadata_props}.get("pkg.torch.onnx.name_scopes")
        if scopes and node.op_type == "MatMul":
            node.name = "/".join(ast.literal_eval(scopes)[-2:])  # module/call
        del node.metadata_props[:]
        node.ClearField("doc_string")
    for value in (*model.graph.input, *model.graph.output):
        for axis, name in zip(value.type.tensor_type.shape.dim, AXES, strict=False):
            if axis.dim_param:
                axis.dim_param = name
    for output in model.graph.output:
        if output.name == SENTENCE:
            output.type.tensor_type.shape.dim[1].ClearField("dim_param")
            output.type.tensor_type.shape.dim[1].dim_value = dimensions
    # With the shapes of all values, ONNX Runtime plans a third more memory for a batch, and fuses sums and norms to an
    # operator that is five times slower than the two (docs/decisions.md).
    del model.graph.value_info[:]
    for part in (*model.graph.initializer, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
    del model.metadata_props[:], model.graph.metadata_props[:]
