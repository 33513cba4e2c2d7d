"""A SentenceTransformer as one torch module of one length, which litert-torch traces: ids and mask in, unit vector out.

transformers' own modules run inside, so operations are named after them, and a recipe's rules match those names. Gemma3
attends by a function of this module: litert-torch 0.10 exports transformers' own, which copies keys for every query
head, with keys reshaped instead of transposed. It reports no error, and the graph computes other vectors.

litert-torch writes the names of this module and of `Fixed` into tensor names: another name gives files of other bytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from embed_foundry.errors import InputError
from torch import Tensor, nn
from torch.nn import functional

from stages.convert.graph.gemma3 import MASKED, read_window_reach
from stages.convert.graph.onnx_export import HEADS
from stages.convert.graph.onnx_model import SENTENCE

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

ATTENTION = "embed_foundry_folded"
# Query rows of a block of a sliding layer: they see the block's own keys and those within the window's reach.
BLOCK = 256


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


def attend(
    _module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: list[Block],
    scaling: float,
    **_: object,
) -> tuple[Tensor, None]:
    """Attend block by block, without copying keys: query heads that share a key/value head become rows of it.

    Args:
        query: [1, heads, length, width].
        key: [1, shared heads, length, width].
        value: as `key`.
        attention_mask: the blocks, which transformers passes on unchanged.
        scaling: of the scores.

    Returns:
        The outputs [1, length, heads, width], and None for the attention weights.
    """
    _, heads, _, width = query.shape
    shared = key.shape[1]
    outputs = []
    for block in attention_mask:
        rows = query[:, :, block.rows]
        size = rows.shape[2]
        folded = rows.reshape(1, shared, heads // shared * size, width)
        scores = torch.matmul(folded, key[:, :, block.keys].transpose(2, 3)) * scaling
        weights = torch.softmax(scores.reshape(1, heads, size, -1) + block.mask, dim=-1)
        mixed = torch.matmul(weights.reshape(1, shared, heads // shared * size, -1), value[:, :, block.keys])
        outputs.append(mixed.reshape(1, heads, size, width))
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None


class Fixed(nn.Module):
    """The model at one length.

    Args:
        model: a SentenceTransformer in fp32; its transformer is changed.
        length: tokens of every input, padding included.

    Raises:
        InputError: the model has modules other than a transformer, pooling, dense heads and normalisation.
    """

    def __init__(self, model: "SentenceTransformer", length: int) -> None:
        super().__init__()
        names = {type(module).__name__ for module in [*model][1:]}
        if unsupported := sorted(names - HEADS):
            raise InputError(f"modules {unsupported} cannot be converted to LiteRT yet. Leave tflite out of `variant`.")
        self.encoder = model[0].auto_model
        self.pooling = next(module for module in model if type(module).__name__ == "Pooling")
        self.heads = nn.ModuleList(module for module in model if type(module).__name__ == "Dense")
        self.length = length
        self.gemma = self.encoder.config.model_type == "gemma3_text"
        if self.gemma:
            _use_block_attention(self.encoder)
            self.reach = read_window_reach(self.encoder.config)
            row, key = torch.arange(BLOCK)[:, None], torch.arange(BLOCK + 2 * self.reach)[None] - self.reach
            band = torch.where((row - key).abs() <= self.reach, 0.0, MASKED)
            self.register_buffer("band", band[None, None], persistent=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """Return the unit vector: int32 [1, length], int32 [1, length] -> float32 [1, dimensions]."""
        inputs: dict[str, object] = {"input_ids": input_ids, "attention_mask": attention_mask}
        if self.gemma:
            padding = (1.0 - attention_mask.to(torch.float32))[:, None, None, :] * MASKED
            full = [Block(slice(0, self.length), slice(0, self.length), padding)]
            windows = list(self._split_into_windows(padding)) if self.length > self.reach + 1 else full
            inputs["attention_mask"] = {"full_attention": full, "sliding_attention": windows}
            inputs |= {"position_ids": torch.arange(self.length)[None], "use_cache": False}
        features = {"token_embeddings": self.encoder(**inputs)[0], "attention_mask": attention_mask}
        vector = self.pooling(features)[SENTENCE]
        for head in self.heads:
            vector = head.activation_function(head.linear(vector))
        return {SENTENCE: functional.normalize(vector, dim=-1)}

    def _split_into_windows(self, padding: Tensor) -> Iterator[Block]:
        """Yield the blocks of a sliding layer; all window masks are slices of one small table, whatever the length."""
        for start in range(0, self.length, BLOCK):
            stop = min(start + BLOCK, self.length)
            first, last = max(0, start - self.reach), min(self.length, stop + self.reach)
            shift = first - (start - self.reach)
            near = self.band[:, :, : stop - start, shift : shift + last - first]
            yield Block(slice(start, stop), slice(first, last), near + padding[..., first:last])


def _use_block_attention(encoder: nn.Module) -> None:
    """Make a transformers Gemma3 attend by `attend`, in place."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(ATTENTION, attend)
    encoder.config._attn_implementation = ATTENTION
    for layer in encoder.layers:
        layer.self_attn.config._attn_implementation = ATTENTION
