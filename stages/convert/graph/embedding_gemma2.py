"""EmbeddingGemma 2's text encoder written for export: what transformers computes, in a graph that runs fast.

As in gemma3.py, projections that read the same input are one matrix, query heads share key/value heads by broadcasting,
and sliding layers compute only the blocks that their window reaches. The signal of every layer is projected inside the
layer: all layers' together are the largest tensor of a long text.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.convert.graph.layers import AttentionPlan, Norm, join_linear, select_weights
from stages.convert.graph.rotary import RotaryTable, rotate

if TYPE_CHECKING:
    from transformers import EmbeddingGemma2TextConfig, EmbeddingGemma2TextModel, PretrainedConfig

# Longest text whose sliding layers are computed in one piece: a block (256 rows and 512 keys to either side) covers
# all keys of 1024 tokens.
WHOLE = 1024


def supports(config: "PretrainedConfig") -> bool:
    """Return whether this module computes what a transformers configuration describes."""
    return bool(
        config.model_type == "embedding_gemma2_text"
        and config.hidden_activation == "gelu_pytorch_tanh"
        and not config.attention_bias
        and all(rope["rope_type"] == "default" for rope in config.rope_parameters.values())
    )


def read_window_reach(config: "EmbeddingGemma2TextConfig") -> int:
    """Return how many tokens a sliding layer sees to either side: the configuration holds a radius."""
    return int(config.sliding_window)


class Layer(nn.Module):
    """One transformer layer.

    Args:
        weights: the layer's weights by their names in the checkpoint.
        signal: the layer's rows of the matrix that projects token embeddings to its signal.
        signal_norm: the norm of the signal, which all layers share.
        config: the transformers configuration.
        number: the layer's, from 0.
    """

    def __init__(
        self,
        weights: dict[str, Tensor],
        signal: Tensor,
        signal_norm: Norm,
        config: "EmbeddingGemma2TextConfig",
        number: int,
    ) -> None:
        super().__init__()
        own = config.per_layer_config[number]
        self.width, self.queries, self.shared = own.head_dim, config.num_attention_heads, own.num_key_value_heads
        self.sliding = config.layer_types[number] == "sliding_attention"
        self.qkv = join_linear(*(weights[f"self_attn.{part}_proj.weight"] for part in "qkv"))
        self.out = join_linear(weights["self_attn.o_proj.weight"])
        self.gate_up = join_linear(*(weights[f"mlp.{part}_proj.weight"] for part in ("gate", "up")))
        self.down = join_linear(weights["mlp.down_proj.weight"])
        self.signal, self.signal_norm = join_linear(signal), signal_norm
        self.signal_gate = join_linear(weights["ple_block.per_layer_input_gate.weight"])
        self.signal_out = join_linear(weights["ple_block.per_layer_projection.weight"])
        self.scalar = float(weights["layer_scalar"])

        def norm(name: str) -> Norm:
            return Norm(weights[f"{name}.weight"], config.rms_norm_eps)

        self.query_norm, self.key_norm = norm("self_attn.q_norm"), norm("self_attn.k_norm")
        # Values have a norm without weights.
        self.value_norm = Norm(torch.ones(self.width), config.rms_norm_eps)
        self.before_attention, self.after_attention = norm("input_layernorm"), norm("post_attention_layernorm")
        self.before_mlp, self.after_mlp = norm("pre_feedforward_layernorm"), norm("post_feedforward_layernorm")
        self.after_signal = norm("ple_block.post_per_layer_input_norm")

    def forward(self, x: Tensor, embedded: Tensor, plan: AttentionPlan, rotation: tuple[Tensor, Tensor]) -> Tensor:
        """Return the layer's output.

        Args:
            x: the output of the layer before, [b, t, hidden].
            embedded: the tokens' rows of the embedding, without its scale, [b, t, hidden].
            plan: which tokens see which.
            rotation: cosines and sines, [t, width] each.
        """
        x = x + self.after_attention(self.out(self._attend(self.before_attention(x), plan, rotation)))
        gate, up = self.gate_up(self.before_mlp(x)).chunk(2, -1)
        x = x + self.after_mlp(self.down(functional.gelu(gate, approximate="tanh") * up))
        signal = self.signal_norm(self.signal(embedded))
        gate = functional.gelu(self.signal_gate(x), approximate="tanh")
        x = x + self.after_signal(self.signal_out(gate * signal))
        return x if self.scalar == 1 else x * self.scalar

    def _attend(self, x: Tensor, plan: AttentionPlan, rotation: tuple[Tensor, Tensor]) -> Tensor:
        """Return [b, t, heads * width]: what every query head of every token has read."""
        length = x.shape[1]
        heads = self.qkv(x).unflatten(-1, (-1, self.width)).transpose(1, 2)
        queries, keys, values = heads.split([self.queries, self.shared, self.shared], 1)
        queries = rotate(self.query_norm(queries), *rotation).unflatten(
            1, (self.shared, -1)
        )  # [b, shared, group, t, w]
        keys, values = rotate(self.key_norm(keys), *rotation)[:, :, None], self.value_norm(values)[:, :, None]
        if self.sliding:
            queries, keys, values = take(queries, plan.rows), take(keys, plan.keys), take(values, plan.keys)
        mask = plan.window.squeeze(2)[:, None, None] if self.sliding else plan.full[:, None]
        scores = queries @ keys.transpose(-1, -2) + mask
        mixed = torch.softmax(scores, -1) @ values
        if self.sliding:
            mixed = mixed.flatten(3, 4)[:, :, :, :length]
        return mixed.flatten(1, 2).transpose(1, 2).flatten(2)


def take(x: Tensor, positions: Tensor) -> Tensor:
    """Return the tokens of each block: [..., t, width], [n, r] -> [..., n, r, width]."""
    return x.index_select(-2, positions.flatten()).unflatten(-2, positions.shape)


class Encoder(nn.Module):
    """The encoder from token ids to one vector per token.

    Args:
        model: transformers' EmbeddingGemma2TextModel, in fp32.
    """

    def __init__(self, model: "EmbeddingGemma2TextModel") -> None:
        super().__init__()
        config, weights = model.config, model.state_dict()
        self.embed = nn.Embedding.from_pretrained(weights["embed_tokens.weight"])
        # transformers projects the scaled embedding by 1 / scale: the signal reads the plain one.
        self.scale = config.hidden_size**0.5
        self.reach = read_window_reach(config)
        signals = weights["ple.per_layer_model_projection.weight"].chunk(config.num_hidden_layers)
        signal_norm = Norm(weights["ple.per_layer_projection_norm.weight"], config.rms_norm_eps)
        self.layers = nn.ModuleList(
            Layer(select_weights(weights, f"layers.{number}."), signal, signal_norm, config, number)
            for number, signal in enumerate(signals)
        )
        self.norm = Norm(weights["norm.weight"], config.rms_norm_eps)
        self.project = join_linear(weights["embedding_projection.weight"])
        tables = {
            kind: RotaryTable(rope["rope_theta"], _read_head_width(config, kind), config.max_position_embeddings)
            for kind, rope in config.rope_parameters.items()
        }
        self.sliding, self.full = tables["sliding_attention"], tables["full_attention"]

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return token vectors: int64 [b, t], int64 [b, t] -> float32 [b, t, dimensions]."""
        length = input_ids.shape[1]
        plan = AttentionPlan(attention_mask, self.reach, WHOLE)
        sliding, full = self.sliding(length), self.full(length)
        embedded = self.embed(input_ids)
        x = embedded * self.scale
        for layer in self.layers:
            x = layer(x, embedded, plan, sliding if layer.sliding else full)
        return self.project(self.norm(x))


def _read_head_width(config: "EmbeddingGemma2TextConfig", kind: str) -> int:
    """Return the width of the heads of the layers of one kind."""
    return int(config.per_layer_config[config.layer_types.index(kind)].head_dim)
