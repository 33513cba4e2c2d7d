"""An ONNX variant of kilobytes, whose weights stand in a file beside its graph."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from embed_foundry import manifest
from onnx import TensorProto, helper
from safetensors.numpy import load_file

from support import tiny_static

GRAPH, WEIGHTS = "graph.onnx", "graph.onnx.data"


def write_variant(folder: Path) -> Path:
    """Write a variant that gives a text the mean of its tokens' rows in a table; return the folder."""
    tiny_static.write_variant(folder)
    table = load_file(folder / "table.safetensors")["embeddings"]
    (folder / "table.safetensors").unlink()
    (folder / WEIGHTS).write_bytes(table.tobytes())
    write_graph(folder, {"location": WEIGHTS})
    record = tiny_static.describe(folder.name, {"graph": GRAPH, "tokenizer": "tokenizer.json"})
    (folder / "variant.json").write_bytes(manifest.canonical(record.to_json() | {"kind": "onnx"}))
    manifest.write(folder, {"stage": f"convert@{folder.name}"})
    return folder


def write_graph(folder: Path, external: Mapping[str, str]) -> None:
    """Write the graph, with ONNX's entries that say where the table is: location, offset, length."""
    rows = (folder / WEIGHTS).stat().st_size // (16 * np.dtype(np.float32).itemsize)
    table = TensorProto(name="table", data_type=TensorProto.FLOAT, dims=[rows, 16], data_location=TensorProto.EXTERNAL)
    for key, value in external.items():
        table.external_data.add(key=key, value=value)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["tokens"]),
            helper.make_node("ReduceMean", ["tokens"], ["sentence_embedding"], axes=[1], keepdims=0),
        ],
        "tiny",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"])],
        [helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["batch", 16])],
        [table],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (folder / GRAPH).write_bytes(model.SerializeToString())
