"""8-bit linear layers and token table for PyTorch on a CPU, and how transformers loads them by config.json.

torchao 0.18 and bitsandbytes 0.50 do the same at the same quality, slower on a CPU, and neither keeps the token table,
two thirds of EmbeddingGemma, in 8 bits while it runs (docs/decisions.md has the measurements).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.quantizers import HfQuantizer, register_quantization_config, register_quantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

# quantization_config.quant_method in a model's config.json.
METHOD = "embed_foundry_int8"
TOP = 127  # symmetric: -128 is left out, so that a sign never changes a magnitude
TINY = 1e-12  # a row of zeros gets this scale, not a division by zero


def rows_to_int8(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows as int8 with one scale each: [..., n] float -> [..., n] int8 and [..., 1] float32."""
    scale = values.abs().amax(-1, keepdim=True).float().clamp_min(TINY) / TOP
    return (values.float() / scale).round().to(torch.int8), scale


class Int8Linear(nn.Module):
    """y = x W^T + b with W in int8, one scale an output row; x becomes int8 with one scale a token, at run time.

    A token's scale does not depend on its neighbours. The product is exact in int32.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool) -> None:
        super().__init__()
        self.register_buffer("weight", torch.empty(outputs, inputs, dtype=torch.int8))
        self.register_buffer("scale", torch.empty(outputs, dtype=torch.float32))
        self.bias = nn.Parameter(torch.empty(outputs), requires_grad=False) if bias else None

    @classmethod
    def of(cls, linear: nn.Linear) -> "Int8Linear":
        """Quantise a float layer."""
        made = cls(linear.in_features, linear.out_features, bias=linear.bias is not None)
        made.weight, scale = rows_to_int8(linear.weight.detach())
        made.scale = scale.squeeze(-1)
        if linear.bias is not None:
            made.bias = nn.Parameter(linear.bias.detach().float(), requires_grad=False)
        return made

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] float -> [..., outputs] of the same type."""
        rows, scale = rows_to_int8(x.reshape(-1, x.shape[-1]))
        y = torch._int_mm(rows, self.weight.t()).mul(scale * self.scale)
        y = y if self.bias is None else y + self.bias
        return y.to(x.dtype).reshape(*x.shape[:-1], -1)


class Int8Embedding(nn.Module):
    """A token table in int8, one scale a token; a factor that the float layer multiplies by is inside the scales."""

    def __init__(self, rows: int, dimensions: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.empty(rows, dimensions, dtype=torch.int8))
        self.register_buffer("scale", torch.empty(rows, 1, dtype=torch.float32))

    @classmethod
    def of(cls, table: nn.Embedding) -> "Int8Embedding":
        """Quantise a float table."""
        made = cls(table.num_embeddings, table.embedding_dim)
        made.weight, made.scale = rows_to_int8(table.weight.detach())
        made.scale = made.scale * float(getattr(table, "embed_scale", 1.0))  # Gemma3TextScaledWordEmbedding
        return made

    def forward(self, ids: Tensor) -> Tensor:
        """[...] ids -> [..., dimensions] float32."""
        return functional.embedding(ids, self.weight) * functional.embedding(ids, self.scale)


def swap(model: PreTrainedModel, *, fill: bool) -> None:
    """Replace the model's linear layers and its token table, in place.

    Args:
        model: a transformers model.
        fill: quantise the layers' own weights; False leaves the new layers empty, for weights that are loaded next.
    """
    table = model.get_input_embeddings()
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Linear):
                empty = Int8Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
                setattr(parent, name, Int8Linear.of(layer) if fill else empty)
            elif layer is table and isinstance(layer, nn.Embedding):
                blank = Int8Embedding(layer.num_embeddings, layer.embedding_dim)
                setattr(parent, name, Int8Embedding.of(layer) if fill else blank)


@register_quantization_config(METHOD)
class Int8Config(QuantizationConfigMixin):
    """config.json's quantization_config; it has no settings."""

    def __init__(self, **_: Any) -> None:  # noqa: ANN401 - whatever transformers hands on
        self.quant_method = METHOD


@register_quantizer(METHOD)
class Int8Quantizer(HfQuantizer):
    """Makes room for int8 layers before transformers loads a checkpoint that holds them."""

    def _process_model_before_weight_loading(self, model: PreTrainedModel, **_: Any) -> None:  # noqa: ANN401
        swap(model, fill=False)

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **_: Any) -> PreTrainedModel:  # noqa: ANN401
        return model

    def is_serializable(self, safe_serialization: bool | None = None) -> bool:
        """A checkpoint can be written as safetensors."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Rounded weights have no gradient."""
        return False
