"""A SentenceTransformer as one torch module of one length, which litert-torch traces: ids and mask in, unit vector out.

The modules of sentence-transformers and transformers run inside, so operations are named after them, and a recipe's
rules match those names. Where query heads share keys, models attend by a function of this module: litert-torch 0.10
exports transformers' own, which copies keys for every query head, with keys reshaped instead of transposed. It reports
no error, and the graph computes other vectors.

litert-torch writes the names of this module and of `Fixed` into tensor names: another name gives files of other bytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from embed_foundry.errors import InputError
from torch import Tensor, nn
from torch.nn import functional

from stages.convert.graph import gemma3
from stages.convert.graph.layers import BLOCK, MASKED
from stages.convert.graph.onnx_model import SENTENCE

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PretrainedConfig

ATTENTION = "embed_foundry_folded"


@dataclass(frozen=True)
class Block:
    """Query rows that attend to one range of keys.

    Attributes:
        rows: positions of the queries.
        keys: positions of the keys.
        mask: [1, 1, 1 or rows, keys], added to the scores.
    """

    rows: slice
    keys: slice
    mask: Tensor


def read_window_reach(config: "PretrainedConfig") -> int | None:
    """Return how many tokens a sliding layer sees to either side; None if the model does not take masks in blocks."""
    if config.model_type == "gemma3_text" and config.use_bidirectional_attention:
        return gemma3.read_window_reach(config)
    return int(config.sliding_window) if config.model_type == "embedding_gemma2_text" else None


def attend(
    _module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: list[Block] | Tensor | None,
    scaling: float,
    softcap: float | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Attend block by block, without copying keys: query heads that share a key/value head become rows of it.

    Args:
        query: [1, heads, length, width].
        key: [1, shared heads, length, width].
        value: as `key`.
        attention_mask: the blocks, which transformers passes on unchanged; or its own mask [1, 1, length, length].
        scaling: of the scores.
        softcap: the scores' limit, approached by tanh.

    Returns:
        The outputs [1, length, heads, width], and None for the attention weights.
    """
    _, heads, length, width = query.shape
    shared = key.shape[1]
    if not isinstance(attention_mask, list):
        mask = query.new_zeros(1, 1, 1, length) if attention_mask is None else attention_mask
        attention_mask = [Block(slice(0, length), slice(0, length), mask)]
    outputs = []
    for block in attention_mask:
        rows = query[:, :, block.rows]
        size = rows.shape[2]
        folded = rows.reshape(1, shared, heads // shared * size, width)
        scores = torch.matmul(folded, key[:, :, block.keys].transpose(2, 3)) * scaling
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        weights = torch.softmax(scores.reshape(1, heads, size, -1) + block.mask, dim=-1)
        mixed = torch.matmul(weights.reshape(1, shared, heads // shared * size, -1), value[:, :, block.keys])
        outputs.append(mixed.reshape(1, heads, size, width))
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None


class Fixed(nn.Module):
    """The model at one length: all its modules in order, as sentence-transformers runs them.

    Args:
        model: a SentenceTransformer in fp32; its transformer is changed.
        length: tokens of every input, padding included.

    Raises:
        InputError: its first module is no transformer, or its pooling needs to know where a prompt ends.
    """

    def __init__(self, model: "SentenceTransformer", length: int) -> None:
        super().__init__()
        transformer, *heads = model
        _require_convertible(transformer, heads)
        self.transformer = transformer
        self.heads = nn.ModuleList(heads)
        self.length = length
        encoder = transformer.auto_model
        self.reach = read_window_reach(encoder.config)
        if self.reach is not None or _shares_keys(encoder):
            _use_folded_attention(encoder)
        if self.reach is not None:
            row, key = torch.arange(BLOCK)[:, None], torch.arange(BLOCK + 2 * self.reach)[None] - self.reach
            band = torch.where((row - key).abs() <= self.reach, 0.0, MASKED)
            self.register_buffer("band", band[None, None], persistent=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """Return the unit vector: int32 [1, length], int32 [1, length] -> float32 [1, dimensions]."""
        return self._encode({"input_ids": input_ids}, attention_mask)

    def _encode(self, tokens: dict[str, Tensor], attention_mask: Tensor) -> dict[str, Tensor]:
        """Run all modules on ids or embeddings of tokens."""
        inputs: dict[str, object] = {**tokens, "attention_mask": attention_mask}
        if self.reach is not None:
            padding = (1.0 - attention_mask.to(torch.float32))[:, None, None, :] * MASKED
            full = [Block(slice(0, self.length), slice(0, self.length), padding)]
            windows = list(self._split_into_windows(padding, self.reach)) if self.length > self.reach + 1 else full
            inputs["attention_mask"] = {"full_attention": full, "sliding_attention": windows}
        features = self.transformer(inputs) | {"attention_mask": attention_mask}
        for head in self.heads:
            features = head(features)
        return {SENTENCE: functional.normalize(features[SENTENCE], dim=-1)}

    def _split_into_windows(self, padding: Tensor, reach: int) -> Iterator[Block]:
        """Yield the blocks of a sliding layer; all window masks are slices of one small table, whatever the length."""
        for start in range(0, self.length, BLOCK):
            stop = min(start + BLOCK, self.length)
            first, last = max(0, start - reach), min(self.length, stop + reach)
            shift = first - (start - reach)
            near = self.band[:, :, : stop - start, shift : shift + last - first]
            yield Block(slice(start, stop), slice(first, last), near + padding[..., first:last])


class Embedder(nn.Module):
    """The lookup of one token for LiteRT-LM, which passes no mask: the last value says that a token is no padding.

    Args:
        model: a SentenceTransformer.
        pad_id: the id that LiteRT-LM fills a length with.
    """

    def __init__(self, model: "SentenceTransformer", pad_id: int) -> None:
        super().__init__()
        self.table = model[0].auto_model.get_input_embeddings()
        self.pad_id = pad_id

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        """Return the embedding: int32 [1, 1] -> float32 [1, 1, width + 1]."""
        present = (tokens != self.pad_id).to(torch.float32)[..., None]
        return {"embeddings": torch.cat([self.table(tokens), present], dim=-1)}


class FixedFromEmbeddings(Fixed):
    """The model at one length, without the lookup of tokens."""

    def forward(self, embeddings: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        """Return the unit vector: what `Embedder` gives, float32 [1, length, width + 1] -> float32 [1, dimensions]."""
        mask = (embeddings[..., -1] > 0.5).to(torch.int32)
        return self._encode({"inputs_embeds": embeddings[..., :-1]}, mask)


def _require_convertible(transformer: nn.Module, heads: list[nn.Module]) -> None:
    """Check that ids and a mask are all that the modules need."""
    if not hasattr(transformer, "auto_model"):
        raise InputError(
            f"the first module is {type(transformer).__name__}, expected Transformer. Leave tflite out of `variant`."
        )
    if not all(getattr(head, "include_prompt", True) for head in heads):
        raise InputError(
            "pooling leaves out a prompt's tokens (include_prompt: false), but a LiteRT graph is not told where a "
            "prompt ends. Leave tflite out of `variant`."
        )


def _shares_keys(encoder: nn.Module) -> bool:
    """Return whether several query heads of a layer share a key/value head."""
    return any(getattr(module, "num_key_value_groups", 1) > 1 for module in encoder.modules())


def _use_folded_attention(encoder: nn.Module) -> None:
    """Make a transformers model attend by `attend`, in place, with masks of floats."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(ATTENTION, attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(ATTENTION, eager_mask)
    for module in encoder.modules():
        if hasattr(module, "config"):
            module.config._attn_implementation = ATTENTION
