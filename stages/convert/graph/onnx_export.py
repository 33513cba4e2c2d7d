"""The export itself: traced from a room of this package where there is one, else by optimum."""

import ast
import tempfile
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from embed_foundry import manifest
from embed_foundry.errors import InputError
from numpy.typing import NDArray

from stages.convert.conversion import THREADS

TOKENS = "last_hidden_state"
SENTENCE = "sentence_embedding"
# Weights above this many bytes lie in a file of their own beside the graph: ONNX Runtime maps that file instead of
# parsing it (EmbeddingGemma fp32: 2.9 s and 0.5 GB against 15 s and 2.1 GB), and protobuf ends at 2 GiB anyway.
EXTERNAL_BYTES = 128 * 1024 * 1024
# Modules after the transformer that `_sentence` and fixed.py run as sentence-transformers does.
HEADS = {"Pooling", "Dense", "Normalize"}


def export(base: Path, opset: int) -> Any:  # noqa: ANN401 - onnx has no types
    """Return the ONNX model of a SentenceTransformer folder: both outputs named, nodes named after their modules.

    Args:
        base: the verified folder.
        opset: ONNX operator set.

    Raises:
        InputError: the architecture cannot be exported; the message carries the exporter's reason.
    """
    exported = _export(base, manifest.read(base).digest, opset)
    copy = type(exported)()
    copy.CopyFrom(exported)
    return copy


@lru_cache(maxsize=1)  # a minute for EmbeddingGemma; a search over recipes, and the tests, ask again and again
def _export(base: Path, _digest: str, opset: int) -> Any:  # noqa: ANN401
    import torch
    from sentence_transformers import SentenceTransformer

    from stages.convert.graph import gemma3

    torch.set_num_threads(THREADS)
    model = SentenceTransformer(
        str(base), device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32}
    ).eval()
    traced = gemma3.fits(model[0].auto_model.config) and {type(part).__name__ for part in [*model][1:]} <= HEADS
    try:
        graph = _trace(model, opset) if traced else _optimum(base, opset)
    except (ValueError, KeyError, RuntimeError) as error:
        raise InputError(
            f"{base}: it cannot be exported to ONNX ({error}). Leave onnx and openvino variants out of `variant`."
        ) from error
    _name(graph, int(model.get_embedding_dimension()))
    return graph


def save(graph: Any, target: Path) -> dict[str, str]:  # noqa: ANN401
    """Write a graph, large weights beside it, and return role to file name.

    Args:
        graph: the ONNX model.
        target: the graph's file; weights go to the same name with ".data" after it.
    """
    import onnx

    external = graph.ByteSize() > EXTERNAL_BYTES
    weights = f"{target.name}.data"
    onnx.save(graph, target, save_as_external_data=external, location=weights)
    if not external:
        return {"graph": target.name}
    target.with_name(weights).chmod(0o644)  # onnx makes it private
    return {"graph": target.name, "weights": weights}


def runner(graph: Any, scratch: Path) -> Callable[[list[str], list[list[int]]], list[NDArray[np.float32]]]:  # noqa: ANN401
    """Return a function from names of tensors and rows of token ids to the tensors, by ONNX Runtime.

    Rows that are shorter than the longest are padded and masked.

    Args:
        graph: the fp32 ONNX model.
        scratch: a folder for its file, as long as the function is used.
    """
    import onnxruntime

    path = scratch / "run.onnx"
    save(graph, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    wanted = [item.name for item in session.get_inputs()]

    def run(tensors: list[str], rows: list[list[int]]) -> list[NDArray[np.float32]]:
        lengths = np.array([len(row) for row in rows])
        mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
        ids = np.zeros_like(mask)
        ids[mask == 1] = np.concatenate(rows)
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        found: list[NDArray[np.float32]] = session.run(tensors, {name: feeds[name] for name in wanted})
        return found

    return run


def _trace(model: Any, opset: int) -> Any:  # noqa: ANN401
    import torch

    ids = torch.arange(2, 2 + 2 * 700).reshape(2, 700) % model[0].auto_model.config.vocab_size
    mask = torch.ones_like(ids)
    mask[1, 100:] = 0
    batch, length = torch.export.Dim("b"), torch.export.Dim("s", max=model[0].auto_model.config.max_position_embeddings)
    axes = {0: batch, 1: length}
    program = torch.export.export(
        _sentence(model), (ids, mask), dynamic_shapes={"input_ids": axes, "attention_mask": axes}, strict=True
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


def _sentence(model: Any) -> Any:  # noqa: ANN401
    """Return one torch module from ids and mask to token vectors and the sentence's unit vector."""
    from torch import Tensor, nn
    from torch.nn import functional

    from stages.convert.graph.gemma3 import Gemma3

    class Sentence(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = Gemma3(model[0].auto_model)
            self.pooling = next(part for part in model if type(part).__name__ == "Pooling")
            heads = [part for part in model if type(part).__name__ == "Dense"]
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


def _optimum(base: Path, opset: int) -> Any:  # noqa: ANN401
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
            do_validation=False,  # parity.measure compares far more than optimum's random inputs
            opset=opset,
        )
        return onnx.load(str(Path(scratch, "model.onnx")))


def _name(graph: Any, dimensions: int) -> None:  # noqa: ANN401
    """Give outputs and nodes their contract names, in place, and drop what tells where the graph was made."""
    for node in graph.graph.node:
        for names in (node.input, node.output):
            for at, name in enumerate(names):
                if name == "token_embeddings":
                    names[at] = TOKENS
        scopes = {item.key: item.value for item in node.metadata_props}.get("pkg.torch.onnx.name_scopes")
        if scopes and node.op_type == "MatMul":
            node.name = "/".join(ast.literal_eval(scopes)[-2:])  # module/call
        del node.metadata_props[:]
        node.ClearField("doc_string")
    for item in graph.graph.output:
        if item.name == "token_embeddings":
            item.name = TOKENS
        if item.name == SENTENCE:
            item.type.tensor_type.shape.dim[1].ClearField("dim_param")
            item.type.tensor_type.shape.dim[1].dim_value = dimensions
    for item in (*graph.graph.initializer, *graph.graph.value_info, *graph.graph.input, *graph.graph.output):
        del item.metadata_props[:]
    del graph.metadata_props[:], graph.graph.metadata_props[:]


def dimensions(graph: Any) -> int:  # noqa: ANN401
    """Return the length of the sentence vectors of an exported graph."""
    outputs = {item.name: item for item in graph.graph.output}
    return int(outputs[SENTENCE].type.tensor_type.shape.dim[1].dim_value)
