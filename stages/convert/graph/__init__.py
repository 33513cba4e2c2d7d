"""The base model as one fp32 ONNX graph, which every ONNX Runtime and OpenVINO variant starts from.

int64 input_ids, attention_mask [b, s] (and prompt_length [b], where pooling leaves prompts out) -> float32
last_hidden_state [b, s, hidden] and sentence_embedding [b, dimensions]: pooled, heads applied, unit norm. torch.export
traces the whole SentenceTransformer; an architecture that has a module here is traced through that one.
"""

from stages.convert.graph.onnx_export import export
from stages.convert.graph.onnx_model import (
    GRAPH,
    SENTENCE,
    TOKENS,
    GraphRunner,
    build_feeds,
    copy,
    load,
    read_dimensions,
    save,
)

__all__ = [
    "GRAPH",
    "SENTENCE",
    "TOKENS",
    "GraphRunner",
    "build_feeds",
    "copy",
    "export",
    "load",
    "read_dimensions",
    "save",
]
