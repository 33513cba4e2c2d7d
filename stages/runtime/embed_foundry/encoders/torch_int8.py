"""8-bit linear layers and token table for PyTorch on a CPU, and how transformers loads them by config.json.

torchao 0.18 and bitsandbytes 0.50 reach the same quality, but are slower on a CPU, and neither keeps the token table
(two thirds of EmbeddingGemma) in 8 bits at run time. docs/decisions.md has the measurements.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.quantizers import HfQuantizer, register_quantization_config, register_quantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

# quantization_config.quant_method in a model's config.json.
METHOD = "embed_foundry_int8"
TOP = 127  # symmetric: without -128, a change of sign never changes a magnitude
TINY = 1e-12  # least scale, so that a row of zeros divides by no zero


def rows_to_int8(values: Tensor) -> tuple[Tensor, Tensor]:
    """Quantise rows with one scale each: [..., n] float -> [..., n] int8 and scales [..., 1] float32."""
    scale = values.abs().amax(-1, keepdim=True).float().clamp_min(TINY) / TOP
    return (values.float() / scale).round().to(torch.int8), scale


class Int8Linear(nn.Module):
    """y = x W^T + b with W in int8, one scale per output row; x becomes int8 at run time, one scale per token.

    A token's scale does not depend on its neighbours, and the int32 product is exact.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool) -> None:
        super().__init__()
        self.register_buffer("weight", torch.empty(outputs, inputs, dtype=torch.int8))
        self.register_buffer("scale", torch.empty(outputs, dtype=torch.float32))
        self.bias = nn.Parameter(torch.empty(outputs), requires_grad=False) if bias else None

    @classmethod
    def from_float(cls, linear: nn.Linear) -> "Int8Linear":
        """Quantise a float layer."""
        layer = cls(linear.in_features, linear.out_features, bias=linear.bias is not None)
        layer.weight, scale = rows_to_int8(linear.weight.detach())
        layer.scale = scale.squeeze(-1)
        if linear.bias is not None:
            layer.bias = nn.Parameter(linear.bias.detach().float(), requires_grad=False)
        return layer

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] float -> [..., outputs] of the same type."""
        rows, scale = rows_to_int8(x.reshape(-1, x.shape[-1]))
        y = torch._int_mm(rows, self.weight.t()).mul(scale * self.scale)
        y = y if self.bias is None else y + self.bias
        return y.to(x.dtype).reshape(*x.shape[:-1], -1)


class Int8Embedding(nn.Module):
    """A token table in int8, one scale per token; the scales include a factor that the float layer multiplies by."""

    def __init__(self, rows: int, dimensions: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.empty(rows, dimensions, dtype=torch.int8))
        self.register_buffer("scale", torch.empty(rows, 1, dtype=torch.float32))

    @classmethod
    def from_float(cls, table: nn.Embedding) -> "Int8Embedding":
        """Quantise a float table."""
        layer = cls(table.num_embeddings, table.embedding_dim)
        layer.weight, layer.scale = rows_to_int8(table.weight.detach())
        layer.scale = layer.scale * float(getattr(table, "embed_scale", 1.0))  # Gemma3TextScaledWordEmbedding
        return layer

    def forward(self, ids: Tensor) -> Tensor:
        """[...] ids -> [..., dimensions] float32."""
        return functional.embedding(ids, self.weight) * functional.embedding(ids, self.scale)


class SharedEmbedding(nn.Module):
    """A second place of a token table (T5's encoder and the model around it share one): the same rows, stored once."""

    def __init__(self, table: Int8Embedding) -> None:
        super().__init__()
        self._tables = (table,)  # in a tuple, it is no submodule: its weights have one name

    def forward(self, ids: Tensor) -> Tensor:
        """As `Int8Embedding.forward`."""
        vectors: Tensor = self._tables[0](ids)
        return vectors


def replace_layers(model: PreTrainedModel, *, fill: bool) -> None:
    """Replace the model's linear layers and its token table, in place; a table in several places is replaced once.

    Args:
        model: a transformers model.
        fill: quantise the layers' own weights; False leaves the new layers empty for weights that are loaded later.
    """
    table = model.get_input_embeddings()
    first, *others = _find_places(model, table)
    rounded = Int8Embedding.from_float(table) if fill else Int8Embedding(table.num_embeddings, table.embedding_dim)
    model.set_submodule(first, rounded)
    for place in others:
        model.set_submodule(place, SharedEmbedding(rounded))
    for place, layer in list(model.named_modules()):
        if isinstance(layer, nn.Linear):
            empty = Int8Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
            model.set_submodule(place, Int8Linear.from_float(layer) if fill else empty)
    floats = dict(model.named_parameters())
    tied = {target: source for target, source in model.all_tied_weights_keys.items() if {target, source} <= set(floats)}
    model.all_tied_weights_keys = tied  # transformers ties parameters, and integers are none


def _find_places(model: PreTrainedModel, table: nn.Module) -> list[str]:
    """Return the names of the token table, and of embeddings that transformers ties to it, in the model's order."""
    embeddings = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Embedding)}
    places = {name for name, layer in embeddings.items() if layer is table}
    for pair in model.all_tied_weights_keys.items():
        names = {name.removesuffix(".weight") for name in pair}
        if names & places:
            places |= names
    return [name for name in embeddings if name in places]


@register_quantization_config(METHOD)
class Int8Config(QuantizationConfigMixin):
    """config.json's quantization_config; it has no settings."""

    def __init__(self, **_: object) -> None:
        self.quant_method = METHOD


@register_quantizer(METHOD)
class Int8Quantizer(HfQuantizer):
    """Puts int8 layers into a model before transformers loads a checkpoint that holds them."""

    def _process_model_before_weight_loading(self, model: PreTrainedModel, **_: object) -> None:
        replace_layers(model, fill=False)

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **_: object) -> PreTrainedModel:
        return model

    def is_serializable(self, safe_serialization: bool | None = None) -> bool:
        """Return True: a checkpoint can be written as safetensors."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Return False: rounded weights have no gradient."""
        return False
