"""A SentenceTransformer as one torch module of one length, which litert-torch traces: ids and mask in, unit vector out.

transformers' own modules run inside, so that operations bear their names, which the rules of a recipe match. For Gemma3
they attend by a function of this room. litert-torch 0.10 emits transformers' own, which copies keys for every query
head, with keys reshaped where they should be transposed: it converts without an error and computes other vectors.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from embed_foundry.errors import InputError
from torch import Tensor, nn
from torch.nn import functional

from stages.convert.graph.gemma3 import MASKED, reach
from stages.convert.graph.onnx_export import HEADS, SENTENCE

ATTENTION = "embed_foundry_folded"
# Query rows of a block of a sliding layer: rows of one block see its own keys and `reach` to either side.
BLOCK = 256


@dataclass(frozen=True)
class Block:
    """Query rows that see one range of keys.

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
    """Attend block by block, the query heads that share a key/value head folded into its rows; no key is copied.

    Args:
        query: [1, heads, length, width].
        key: [1, shared heads, length, width].
        value: as `key`.
        attention_mask: the blocks; transformers hands them through.
        scaling: of the scores.

    Returns:
        [1, length, heads, width], and no weights.
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
        InputError: the model has modules beside a transformer, pooling, dense heads and normalisation.
    """

    def __init__(self, model: Any, length: int) -> None:  # noqa: ANN401 - sentence-transformers
        super().__init__()
        names = [type(part).__name__ for part in [*model][1:]]
        if unknown := sorted(set(names) - HEADS):
            raise InputError(f"modules {unknown} cannot be converted to LiteRT yet. Leave tflite out of `variant`.")
        self.encoder = model[0].auto_model
        self.pooling = next(part for part in model if type(part).__name__ == "Pooling")
        self.heads = nn.ModuleList(part for part in model if type(part).__name__ == "Dense")
        self.length = length
        self.gemma = self.encoder.config.model_type == "gemma3_text"
        if self.gemma:
            _register(self.encoder)
            self.reach = reach(self.encoder.config)
            row, key = torch.arange(BLOCK)[:, None], torch.arange(BLOCK + 2 * self.reach)[None] - self.reach
            band = torch.where((row - key).abs() <= self.reach, 0.0, MASKED)
            self.register_buffer("band", band[None, None], persistent=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """Return the unit vector: int32 [1, length], int32 [1, length] -> float32 [1, dimensions]."""
        asked: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
        if self.gemma:
            padding = (1.0 - attention_mask.to(torch.float32))[:, None, None, :] * MASKED
            everything = [Block(slice(0, self.length), slice(0, self.length), padding)]
            windows = list(self._windows(padding)) if self.length > self.reach + 1 else everything
            asked["attention_mask"] = {"full_attention": everything, "sliding_attention": windows}
            asked |= {"position_ids": torch.arange(self.length)[None], "use_cache": False}
        features = {"token_embeddings": self.encoder(**asked)[0], "attention_mask": attention_mask}
        vector = self.pooling(features)[SENTENCE]
        for head in self.heads:
            vector = head.activation_function(head.linear(vector))
        return {SENTENCE: functional.normalize(vector, dim=-1)}

    def _windows(self, padding: Tensor) -> Iterator[Block]:
        """Yield the blocks of a sliding layer; their window masks are parts of one small table, whatever the length."""
        for start in range(0, self.length, BLOCK):
            stop = min(start + BLOCK, self.length)
            first, last = max(0, start - self.reach), min(self.length, stop + self.reach)
            shift = first - (start - self.reach)
            near = self.band[:, :, : stop - start, shift : shift + last - first]
            yield Block(slice(start, stop), slice(first, last), near + padding[..., first:last])


def _register(encoder: Any) -> None:  # noqa: ANN401
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(ATTENTION, attend)
    encoder.config._attn_implementation = ATTENTION
    for layer in encoder.layers:
        layer.self_attn.config._attn_implementation = ATTENTION
