"""The base model as one fp32 ONNX graph, which every ONNX Runtime and OpenVINO variant starts from.

int64 input_ids, attention_mask [b, s] (token_type_ids too, where the model has them) -> float32 last_hidden_state
[b, s, hidden] and sentence_embedding [b, dimensions]: pooled, heads applied, unit norm. Architectures with a room here
are traced from it by torch.onnx; all others are exported by optimum.
"""

from stages.convert.graph.onnx_export import SENTENCE, TOKENS, dimensions, export, runner, save

__all__ = ["SENTENCE", "TOKENS", "dimensions", "export", "runner", "save"]
