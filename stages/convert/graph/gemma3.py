"""Gemma3's text encoder (EmbeddingGemma) written for export: what transformers computes, in a graph that runs fast.

Three things differ from transformers' own module, none of them in the result: projections that read the same input are
one matrix, query heads share the one key/value head by broadcasting instead of copying it, and layers with a sliding
window compute only the blocks that the window reaches, since most of the full scores of 2048 tokens are masked.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.convert.graph.rotary import RotaryTable, rotate

if TYPE_CHECKING:
    from transformers import Gemma3TextConfig, Gemma3TextModel, PretrainedConfig

# Longest text whose sliding layers are computed in one piece, and query rows of a block in longer ones: up to 512
# tokens, a block (256 rows and 256 keys to either side) would cover all keys. Other values were not tried.
WHOLE, BLOCK = 512, 256
# Added to masked scores. Finite: -inf gives NaN in rows that see padding only, as most rows of a short text do.
MASKED = -1e9


def supports(config: "PretrainedConfig") -> bool:
    """Return whether this module computes what a transformers configuration describes; others go through optimum."""
    return bool(
        config.model_type == "gemma3_text"
        and config.use_bidirectional_attention
        and config.num_key_value_heads == 1
        and config.hidden_activation == "gelu_pytorch_tanh"
        and not config.attention_bias
        and not config.attn_logit_softcapping
        and not config.rope_scaling
    )


def read_window_reach(config: "Gemma3TextConfig") -> int:
    """Return how many tokens a sliding layer sees to either side.

    transformers halves the file's window for bidirectional models and adds one, because it compares by "<".
    """
    return int(config.sliding_window) - 1


class Norm(nn.Module):
    """Root mean square norm with Gemma's weight, stored as its difference from one."""

    def __init__(self, weight: Tensor, epsilon: float, scale: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter((1 + weight) * scale, requires_grad=False)
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis."""
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon) * self.weight


class AttentionPlan:
    """Which queries attend to which keys: query rows by block, the keys each block reaches, and the masks.

    Args:
        mask: [b, t], 1 for a token, 0 for padding.
        reach: tokens that a position of a sliding layer sees to either side.

    Attributes:
        rows: [n, r] positions of the queries of each of n blocks; the last block repeats the last position.
        keys: [n, w] positions of the keys of each block.
        full: [b, 1, 1, t] what full attention adds to its scores.
        window: [b, n, 1, r, w] what sliding attention adds to its scores.
    """

    def __init__(self, mask: Tensor, reach: int) -> None:
        # A tensor, not a Python number: the exported graph computes the plan for the length it is given.
        length = torch.tensor(mask.shape[1])
        blocks = torch.where(length > WHOLE, (length + BLOCK - 1) // BLOCK, torch.ones_like(length))
        size = (length + blocks - 1) // blocks
        width = torch.minimum(size + 2 * reach, length)
        first = torch.arange(blocks) * size
        rows = first[:, None] + torch.arange(size)
        self.keys = torch.minimum((first - reach).clamp(min=0), length - width)[:, None] + torch.arange(width)
        near = (rows[:, :, None] - self.keys[:, None, :]).abs() <= reach
        padding = (1 - mask.to(torch.float32)) * MASKED
        self.rows = torch.minimum(rows, length - 1)
        self.full = padding[:, None, None, :]
        window = torch.where(near, 0.0, MASKED)
        self.window = torch.minimum(window, padding[:, self.keys][:, :, None, :])[:, :, None]


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
        self.qkv = _join_linear(*(weights[f"self_attn.{part}_proj.weight"] for part in "qkv"))
        self.out = _join_linear(weights["self_attn.o_proj.weight"])
        self.gate_up = _join_linear(*(weights[f"mlp.{part}_proj.weight"] for part in ("gate", "up")))
        self.down = _join_linear(weights["mlp.down_proj.weight"])

        def norm(name: str, scale: float = 1.0) -> Norm:
            return Norm(weights[f"{name}.weight"], config.rms_norm_eps, scale)

        # The query norm includes the scores' scale: one multiplication less for each score.
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


class Gemma3(nn.Module):
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
            Layer(_select_weights(weights, f"layers.{number}."), config, number)
            for number in range(config.num_hidden_layers)
        )
        self.norm = Norm(weights["norm.weight"], config.rms_norm_eps)
        length, width = config.max_position_embeddings, config.head_dim
        self.sliding = RotaryTable(config.rope_local_base_freq, width, length)
        self.full = RotaryTable(config.rope_theta, width, length)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return token vectors: int64 [b, t], int64 [b, t] -> float32 [b, t, hidden]."""
        length = input_ids.shape[1]
        plan = AttentionPlan(attention_mask, self.reach)
        sliding, full = self.sliding(length), self.full(length)
        x = self.embed(input_ids) * self.scale
        for layer in self.layers:
            x = layer(x, plan, sliding if layer.sliding else full)
        return self.norm(x)


def _join_linear(*weights: Tensor) -> nn.Linear:
    """Return one linear layer that computes the outputs of all these matrices, in their order."""
    weight = torch.cat(weights)
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    return linear


def _select_weights(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the weights whose names have a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
