"""An exported ONNX model: its outputs, its files, and running it."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stages.convert.conversion import THREADS

if TYPE_CHECKING:
    from onnx import ModelProto

# Name of an exported graph's file; large weights are beside it, in the same name with ".data" after it.
GRAPH = "model.onnx"
# Names of the outputs: a vector for each token, and one for the text.
TOKENS = "last_hidden_state"
SENTENCE = "sentence_embedding"
# The input that holds the number of prompt tokens of each text, where pooling leaves them out.
PROMPT_LENGTH = "prompt_length"
# Weights above this many bytes get a file of their own beside the graph: ONNX Runtime maps that file instead of
# parsing it (EmbeddingGemma fp32: 2.9 s and 0.5 GB against 15 s and 2.1 GB), and protobuf ends at 2 GiB anyway: a model
# may be larger in memory, but whatever serialises it as a whole fails, ByteSize() and CopyFrom() included.
EXTERNAL_BYTES = 128 * 1024 * 1024


def read_dimensions(path: Path) -> int:
    """Return the length of the sentence vectors of an exported graph."""
    import onnx

    outputs = {output.name: output for output in onnx.load(path, load_external_data=False).graph.output}
    return int(outputs[SENTENCE].type.tensor_type.shape.dim[1].dim_value)


def load(path: Path) -> "ModelProto":
    """Return an exported graph with its weights."""
    import onnx

    return onnx.load(path)


def copy(path: Path, target: Path) -> dict[str, str]:
    """Copy an exported graph, large weights beside it, and return role to file name, as `save` does."""
    shutil.copyfile(path, target)
    weights = path.with_name(f"{path.name}.data")
    if not weights.exists():
        return {"graph": target.name}
    if weights.name != f"{target.name}.data":
        raise ValueError(f"{path}: the graph refers to {weights.name}; a copy cannot have another name ({target}).")
    shutil.copyfile(weights, target.with_name(weights.name))
    return {"graph": target.name, "weights": weights.name}


def save(model: "ModelProto", target: Path) -> dict[str, str]:
    """Write a model, large weights beside it, and return role to file name.

    Args:
        model: the ONNX model.
        target: the graph's file; weights go to the same name with ".data" after it.
    """
    import onnx

    external = sum(len(tensor.raw_data) for tensor in model.graph.initializer) > EXTERNAL_BYTES
    weights = f"{target.name}.data"
    onnx.save(model, target, save_as_external_data=external, location=weights)
    if not external:
        return {"graph": target.name}
    target.with_name(weights).chmod(0o644)  # onnx makes it private
    return {"graph": target.name, "weights": weights}


def build_feeds(
    inputs: Iterable[str], ids: NDArray[np.int64], mask: NDArray[np.int64], prompt_tokens: int = 0
) -> dict[str, NDArray[np.int64]]:
    """Return what an exported graph is fed.

    Args:
        inputs: names of the graph's inputs.
        ids: token ids [b, s].
        mask: 1 for tokens, 0 for padding [b, s].
        prompt_tokens: leading tokens that pooling leaves out, where the graph takes their number.
    """
    feeds = {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": np.zeros_like(ids),
        PROMPT_LENGTH: np.full(len(ids), prompt_tokens, dtype=np.int64),
    }
    return {name: feeds[name] for name in inputs}


class GraphRunner:
    """Runs an fp32 graph by ONNX Runtime.

    Args:
        path: the graph's file.
    """

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._inputs = [item.name for item in self._session.get_inputs()]

    def run(self, tensors: list[str], rows: list[list[int]]) -> list[NDArray[np.float32]]:
        """Return the named tensors for rows of token ids; shorter rows are padded and masked."""
        lengths = np.array([len(row) for row in rows])
        mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
        ids = np.zeros_like(mask)
        ids[mask == 1] = np.concatenate(rows)
        values: list[NDArray[np.float32]] = self._session.run(tensors, build_feeds(self._inputs, ids, mask))
        return values
