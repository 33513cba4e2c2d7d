"""The base model as one fp32 ONNX graph, which every ONNX Runtime and OpenVINO variant starts from.

int64 input_ids, attention_mask [b, s] (token_type_ids too, where the model has them) -> float32 last_hidden_state
[b, s, hidden] and sentence_embedding [b, dimensions]: pooled, heads applied, unit norm. torch.onnx traces architectures
that have a module here; optimum exports all others.
"""

from stages.convert.graph.onnx_export import export
from stages.convert.graph.onnx_model import GRAPH, SENTENCE, TOKENS, GraphRunner, copy, load, read_dimensions, save

__all__ = ["GRAPH", "SENTENCE", "TOKENS", "GraphRunner", "copy", "export", "load", "read_dimensions", "save"]
