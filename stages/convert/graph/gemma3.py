"""Gemma3's text encoder (EmbeddingGemma) written for export: what transformers computes, in a graph that runs fast.

Three things differ from transformers' own module, none of them in the result: projections that read the same input are
one matrix, query heads share the one key/value head by broadcasting instead of copying it, and layers with a sliding
window compute only the blocks that the window reaches, since most of the full scores of 2048 tokens are masked.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.convert.graph.layers import AttentionPlan, Norm, join_linear, select_weights
from stages.convert.graph.rotary import RotaryTable, rotate

if TYPE_CHECKING:
    from transformers import Gemma3TextConfig, Gemma3TextModel, PretrainedConfig
# Longest text whose sliding layers are computed in one piece: up to 512 tokens, a block (256 rows and 256 keys to
# either side) would cover all keys. Other values were not tried.
WHOLE = 512


def supports(config: "PretrainedConfig") -> bool:
    """Return whether this module computes what a transformers configuration describes."""
    return bool(
        config.model_type == "gemma3_text"
        and config.use_bidirectional_attention
        and config.num_key_value_heads == 1
        and config.hidden_activation == "gelu_pytorch_tanh"
        and not config.attention_bias
        and not config.attn_logit_softcapping
        and all(rope["rope_type"] == "default" for rope in config.rope_parameters.values())
    )


def read_window_reach(config: "Gemma3TextConfig") -> int:
    """Return how many tokens a sliding layer sees to either side.

    transformers halves the file's window for bidirectional models and adds one, because it compares by "<".
    """
    return int(config.sliding_window) - 1


class Layer(nn.Module):
    """One transformer layer.

    Args:
        weights: the layer's weights by their names in the checkpoint.
        config: the transformers configuration.
        number: the layer's, from 0.
    """

    def __init__(self, weights: dict[str, Tensor], config: "Gemma3TextConfig", number: int) -> None:
        super().__init__()
        self.heads, self.width = config.num_attention_heads, config.head_dim
        self.sliding = config.layer_types[number] == "sliding_attention"
        self.qkv = join_linear(*(weights[f"self_attn.{part}_proj.weight"] for part in "qkv"))
        self.out = join_linear(weights["self_attn.o_proj.weight"])
        self.gate_up = join_linear(*(weights[f"mlp.{part}_proj.weight"] for part in ("gate", "up")))
        self.down = join_linear(weights["mlp.down_proj.weight"])

        def norm(name: str, scale: float = 1.0) -> Norm:
            return Norm((1 + weights[f"{name}.weight"]) * scale, config.rms_norm_eps)

        # Gemma3 stores a norm's weight as its difference from one. The query norm includes the scores' scale: one
        # multiplication less for each score.
        self.query_norm = norm("self_attn.q_norm", config.query_pre_attn_scalar**-0.5)
        self.key_norm = norm("self_attn.k_norm")
        self.before_attention, self.after_attention = norm("input_layernorm"), norm("post_attention_layernorm")
        self.before_mlp, self.after_mlp = norm("pre_feedforward_layernorm"), norm("post_feedforward_layernorm")

    def forward(self, x: Tensor, plan: AttentionPlan, rotation: tuple[Tensor, Tensor]) -> Tensor:
        """Return the layer's output: [b, t, hidden] -> [b, t, hidden]; `rotation` is cosines and sines [t, width]."""
        batch, length, _ = x.shape
        cosine, sine = rotation
        parts = self.qkv(self.before_attention(x)).split([self.heads * self.width, self.width, self.width], -1)
        queries = self.query_norm(parts[0].reshape(batch, length, self.heads, self.width))
        queries = rotate(queries, cosine[:, None], sine[:, None])
        keys, values = rotate(self.key_norm(parts[1]), cosine, sine), parts[2]
        attend = self._attend_in_window if self.sliding else self._attend_fully
        x = x + self.after_attention(self.out(attend(queries, keys, values, plan)))
        gate, up = self.gate_up(self.before_mlp(x)).chunk(2, -1)
        return x + self.after_mlp(self.down(functional.gelu(gate, approximate="tanh") * up))

    def _attend_fully(self, queries: Tensor, keys: Tensor, values: Tensor, plan: AttentionPlan) -> Tensor:
        scores = queries.transpose(1, 2) @ keys[:, None].transpose(-1, -2) + plan.full
        mixed = torch.softmax(scores, -1) @ values[:, None]
        return mixed.transpose(1, 2).flatten(2)

    def _attend_in_window(self, queries: Tensor, keys: Tensor, values: Tensor, plan: AttentionPlan) -> Tensor:
        blocks = queries[:, plan.rows].transpose(2, 3)  # [b, n, heads, r, width]
        scores = blocks @ keys[:, plan.keys][:, :, None].transpose(-1, -2) + plan.window
        mixed = torch.softmax(scores, -1) @ values[:, plan.keys][:, :, None]
        return mixed.transpose(2, 3).flatten(3).flatten(1, 2)[:, : queries.shape[1]]


class Encoder(nn.Module):
    """The encoder from token ids to one vector per token.

    Args:
        model: transformers' Gemma3TextModel, in fp32.
    """

    def __init__(self, model: "Gemma3TextModel") -> None:
        super().__init__()
        config, weights = model.config, model.state_dict()
        self.embed = nn.Embedding.from_pretrained(weights["embed_tokens.weight"])
        self.scale = config.hidden_size**0.5
        self.reach = read_window_reach(config)
        self.layers = nn.ModuleList(
            Layer(select_weights(weights, f"layers.{number}."), config, number)
            for number in range(config.num_hidden_layers)
        )
        self.norm = Norm(1 + weights["norm.weight"], config.rms_norm_eps)
        length, width = config.max_position_embeddings, config.head_dim
        self.sliding = RotaryTable(config.rope_parameters["sliding_attention"]["rope_theta"], width, length)
        self.full = RotaryTable(config.rope_parameters["full_attention"]["rope_theta"], width, length)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return token vectors: int64 [b, t], int64 [b, t] -> float32 [b, t, hidden]."""
        length = input_ids.shape[1]
        plan = AttentionPlan(attention_mask, self.reach, WHOLE)
        sliding, full = self.sliding(length), self.full(length)
        x = self.embed(input_ids) * self.scale
        for layer in self.layers:
            x = layer(x, plan, sliding if layer.sliding else full)
        return self.norm(x)
