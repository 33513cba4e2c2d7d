"""Gemma3's text encoder (EmbeddingGemma) written for export: what transformers computes, in a graph that runs fast.

Three things differ from transformers' own module, none of them in the result: the projections that read the same input
are one matrix, query heads meet the one key/value head by broadcasting instead of copies of it, and layers with a
sliding window compute only blocks that the window reaches, where the full scores of 2048 tokens are mostly masked.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

# Longest text whose sliding layers are computed in one piece, and the query rows of a block in longer ones: up to 512
# tokens a block's keys (256 rows and 256 to either side) would be all of them. Other values were not tried.
WHOLE, BLOCK = 512, 256
# Positions that share a row of the coarse table of turns.
FINE = 64
# Added to masked scores. Finite: -inf makes NaN of rows that see no key or only padding, as most of a short text's do.
MASKED = -1e9


def fits(config: Any) -> bool:  # noqa: ANN401 - a transformers configuration
    """Return whether a transformers configuration is one that this room computes; others take optimum's export."""
    return bool(
        config.model_type == "gemma3_text"
        and config.use_bidirectional_attention
        and config.num_key_value_heads == 1
        and config.hidden_activation == "gelu_pytorch_tanh"
        and not config.attention_bias
        and not config.attn_logit_softcapping
        and not config.rope_scaling
    )


def reach(config: Any) -> int:  # noqa: ANN401 - a transformers configuration
    """Return how many tokens a sliding layer sees to either side.

    transformers halves the file's window for bidirectional models and adds one, for a comparison with "<".
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


class Turns(nn.Module):
    """Cosines and sines of rotary positions (Su et al. 2021, arXiv:2104.09864), from two small tables.

    A position's turn is that of its multiple of FINE and that of the rest, one after the other. Full tables take 8 MB,
    4 % of a 4-bit variant; angles computed from position numbers are wrong where a runtime computes in bf16.
    """

    def __init__(self, theta: float, width: int, length: int) -> None:
        super().__init__()
        steps = 1.0 / theta ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
        fine = torch.outer(torch.arange(FINE, dtype=torch.float32), steps)
        coarse = torch.outer(torch.arange(0, length, FINE, dtype=torch.float32), steps)
        for name, angles in (("fine", fine), ("coarse", coarse)):
            self.register_buffer(f"{name}_cosine", angles.cos())
            self.register_buffer(f"{name}_sine", angles.sin())

    def forward(self, length: int) -> tuple[Tensor, Tensor]:
        """Return cosines and sines of positions 0 to length - 1: each [length, width]."""
        position = torch.arange(length)
        row, column = position // FINE, position % FINE
        cosine, sine = self.coarse_cosine[row], self.coarse_sine[row]
        fine_cosine, fine_sine = self.fine_cosine[column], self.fine_sine[column]
        cosine, sine = cosine * fine_cosine - sine * fine_sine, sine * fine_cosine + cosine * fine_sine
        return cosine.repeat(1, 2), sine.repeat(1, 2)


class Plan:
    """Which rows meet which: query rows by block, the key rows each block reaches, and the masks.

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
        at: the layer's number.
    """

    def __init__(self, weights: dict[str, Tensor], config: Any, at: int) -> None:  # noqa: ANN401
        super().__init__()
        self.heads, self.width = config.num_attention_heads, config.head_dim
        self.sliding = config.layer_types[at] == "sliding_attention"
        self.qkv = _linear(*(weights[f"self_attn.{part}_proj.weight"] for part in "qkv"))
        self.out = _linear(weights["self_attn.o_proj.weight"])
        self.gate_up = _linear(*(weights[f"mlp.{part}_proj.weight"] for part in ("gate", "up")))
        self.down = _linear(weights["mlp.down_proj.weight"])

        def norm(name: str, scale: float = 1.0) -> Norm:
            return Norm(weights[f"{name}.weight"], config.rms_norm_eps, scale)

        # The scores' scale is in the query norm: one multiplication less for each score.
        self.query_norm = norm("self_attn.q_norm", config.query_pre_attn_scalar**-0.5)
        self.key_norm = norm("self_attn.k_norm")
        self.before_attention, self.after_attention = norm("input_layernorm"), norm("post_attention_layernorm")
        self.before_mlp, self.after_mlp = norm("pre_feedforward_layernorm"), norm("post_feedforward_layernorm")

    def forward(self, x: Tensor, plan: Plan, turn: tuple[Tensor, Tensor]) -> Tensor:
        """Return the layer's output: [b, t, hidden] -> [b, t, hidden]; `turn` holds cosines and sines [t, width]."""
        batch, length, _ = x.shape
        cosine, sine = turn
        parts = self.qkv(self.before_attention(x)).split([self.heads * self.width, self.width, self.width], -1)
        queries = self.query_norm(parts[0].reshape(batch, length, self.heads, self.width))
        queries = _rotated(queries, cosine[:, None], sine[:, None])
        keys, values = _rotated(self.key_norm(parts[1]), cosine, sine), parts[2]
        attend = self._sliding if self.sliding else self._full
        x = x + self.after_attention(self.out(attend(queries, keys, values, plan)))
        gate, up = self.gate_up(self.before_mlp(x)).chunk(2, -1)
        return x + self.after_mlp(self.down(functional.gelu(gate, approximate="tanh") * up))

    def _full(self, queries: Tensor, keys: Tensor, values: Tensor, plan: Plan) -> Tensor:
        scores = queries.transpose(1, 2) @ keys[:, None].transpose(-1, -2) + plan.full
        mixed = torch.softmax(scores, -1) @ values[:, None]
        return mixed.transpose(1, 2).flatten(2)

    def _sliding(self, queries: Tensor, keys: Tensor, values: Tensor, plan: Plan) -> Tensor:
        blocks = queries[:, plan.rows].transpose(2, 3)  # [b, n, heads, r, width]
        scores = blocks @ keys[:, plan.keys][:, :, None].transpose(-1, -2) + plan.window
        mixed = torch.softmax(scores, -1) @ values[:, plan.keys][:, :, None]
        return mixed.transpose(2, 3).flatten(3).flatten(1, 2)[:, : queries.shape[1]]


class Gemma3(nn.Module):
    """The encoder from token ids to one vector a token.

    Args:
        model: transformers' Gemma3TextModel, in fp32.
    """

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - transformers has no types
        super().__init__()
        config, weights = model.config, model.state_dict()
        self.embed = nn.Embedding.from_pretrained(weights["embed_tokens.weight"])
        self.scale = config.hidden_size**0.5
        self.reach = reach(config)
        self.layers = nn.ModuleList(
            Layer(_under(weights, f"layers.{at}."), config, at) for at in range(config.num_hidden_layers)
        )
        self.norm = Norm(weights["norm.weight"], config.rms_norm_eps)
        length, width = config.max_position_embeddings, config.head_dim
        self.sliding = Turns(config.rope_local_base_freq, width, length)
        self.full = Turns(config.rope_theta, width, length)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return token vectors: int64 [b, t], int64 [b, t] -> float32 [b, t, hidden]."""
        length = input_ids.shape[1]
        plan = Plan(attention_mask, self.reach)
        sliding, full = self.sliding(length), self.full(length)
        x = self.embed(input_ids) * self.scale
        for layer in self.layers:
            x = layer(x, plan, sliding if layer.sliding else full)
        return self.norm(x)


def _linear(*weights: Tensor) -> nn.Linear:
    weight = torch.cat(weights)
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    return linear


def _under(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def _rotated(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    left, right = x.chunk(2, -1)
    return x * cosine + torch.cat([-right, left], -1) * sine
