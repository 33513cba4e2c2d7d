"""The export to ONNX: traced from a module of this package where there is one, else by optimum."""

import ast
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from embed_foundry import manifest
from embed_foundry.errors import InputError

from stages.convert.conversion import GRAPH_LIBRARIES, THREADS
from stages.convert.graph.onnx_model import GRAPH, SENTENCE, TOKENS, save
from stages.convert.intermediate import load_or_make

if TYPE_CHECKING:
    from onnx import ModelProto
    from sentence_transformers import SentenceTransformer
    from torch import nn

# Modules after the transformer that `_build_sentence_module` and fixed.py run as sentence-transformers does.
HEADS = {"Pooling", "Dense", "Normalize"}


def export(base: Path, opset: int, cache: Path) -> Path:
    """Return the graph's file of a SentenceTransformer folder: both outputs named, nodes named after their modules.

    Args:
        base: the verified folder.
        opset: ONNX operator set.
        cache: a folder for graphs, which later calls take from there (EmbeddingGemma: a minute); read them only.

    Raises:
        InputError: the architecture cannot be exported; the message carries the exporter's reason.
    """
    folder = load_or_make(
        cache,
        "graph",
        {"base": manifest.read(base).digest, "opset": opset},
        code=[Path(__file__).parent],
        libraries=GRAPH_LIBRARIES,
        make=lambda work: save(_export(base, opset), work / GRAPH),
    )
    return folder / GRAPH


def _export(base: Path, opset: int) -> "ModelProto":
    import torch
    from sentence_transformers import SentenceTransformer

    from stages.convert.graph import gemma3

    torch.set_num_threads(THREADS)
    model = SentenceTransformer(
        str(base), device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32}
    ).eval()
    heads = {type(module).__name__ for module in [*model][1:]}
    traceable = gemma3.supports(model[0].auto_model.config) and heads <= HEADS
    try:
        exported = _trace(model, opset) if traceable else _export_by_optimum(base, opset)
    except (ValueError, KeyError, RuntimeError) as error:
        raise InputError(
            f"{base}: it cannot be exported to ONNX ({error}). Leave onnx and openvino variants out of `variant`."
        ) from error
    _normalize_names(exported, int(model.get_embedding_dimension()))
    return exported


def _trace(model: "SentenceTransformer", opset: int) -> "ModelProto":
    import torch

    ids = torch.arange(2, 2 + 2 * 700).reshape(2, 700) % model[0].auto_model.config.vocab_size
    mask = torch.ones_like(ids)
    mask[1, 100:] = 0
    batch, length = torch.export.Dim("b"), torch.export.Dim("s", max=model[0].auto_model.config.max_position_embeddings)
    axes = {0: batch, 1: length}
    program = torch.export.export(
        _build_sentence_module(model),
        (ids, mask),
        dynamic_shapes={"input_ids": axes, "attention_mask": axes},
        strict=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.onnx.export(
            program,
            input_names=["input_ids", "attention_mask"],
            output_names=[TOKENS, SENTENCE],
            opset_version=opset,
            dynamo=True,
            verbose=False,
        )
    return exported.model_proto


def _build_sentence_module(model: "SentenceTransformer") -> "nn.Module":
    """Return one torch module from ids and mask to token vectors and the sentence's unit vector."""
    from torch import Tensor, nn
    from torch.nn import functional

    from stages.convert.graph.gemma3 import Gemma3

    class Sentence(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = Gemma3(model[0].auto_model)
            self.pooling = next(module for module in model if type(module).__name__ == "Pooling")
            heads = [module for module in model if type(module).__name__ == "Dense"]
            self.heads = nn.ModuleList(head.linear for head in heads)
            self.activations = nn.ModuleList(head.activation_function for head in heads)

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
            tokens = self.encoder(input_ids, attention_mask)
            pooled = self.pooling({"token_embeddings": tokens, "attention_mask": attention_mask})[SENTENCE]
            vector = pooled[:, None]  # three axes, so that a head is a MatMul like all others, not a Gemm
            for head, activation in zip(self.heads, self.activations, strict=True):
                vector = activation(head(vector))
            return tokens, functional.normalize(vector[:, 0], dim=1)

    return Sentence().eval()


def _export_by_optimum(base: Path, opset: int) -> "ModelProto":
    import onnx
    import torch
    from optimum.exporters.onnx import main_export

    warnings.simplefilter("ignore", torch.jit.TracerWarning)  # parity decides whether the trace generalises
    with tempfile.TemporaryDirectory() as scratch:
        main_export(
            str(base),
            scratch,
            task="feature-extraction",
            library_name="sentence_transformers",
            do_validation=False,  # parity compares far more than optimum's random inputs
            opset=opset,
        )
        return onnx.load(str(Path(scratch, "model.onnx")))


def _normalize_names(model: "ModelProto", dimensions: int) -> None:
    """Give outputs and nodes the names that recipes and encoders use, and drop what tells where the graph was made."""
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == "token_embeddings":
                    names[index] = TOKENS
        scopes = {entry.key: entry.value for entry in node.metadata_props}.get("pkg.torch.onnx.name_scopes")
        if scopes and node.op_type == "MatMul":
            node.name = "/".join(ast.literal_eval(scopes)[-2:])  # module/call
        del node.metadata_props[:]
        node.ClearField("doc_string")
    for output in model.graph.output:
        if output.name == "token_embeddings":
            output.name = TOKENS
        if output.name == SENTENCE:
            output.type.tensor_type.shape.dim[1].ClearField("dim_param")
            output.type.tensor_type.shape.dim[1].dim_value = dimensions
    for part in (*model.graph.initializer, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
    del model.metadata_props[:], model.graph.metadata_props[:]
