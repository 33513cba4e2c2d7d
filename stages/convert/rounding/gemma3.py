"""Rounds a Gemma3's layers before a TFLite export, on what calibration texts feed them.

BERT is left out: litert-torch merges a matrix with the norm before it, which takes it off its grid.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from embed_foundry.errors import InputError
from embed_foundry.progress import bar

from stages.common.config.variant import FourBitLayers
from stages.convert.rounding.inputs import Call
from stages.convert.rounding.layers import EIGHT_BIT, Grid, Stream, round_layers
from stages.convert.rounding.rows import round_by_least_squares

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor, nn

# Their outputs go through a norm of their own: see `round_layers`.
NORMED = {"self_attn.o_proj", "mlp.down_proj"}


def round_model(
    model: "SentenceTransformer", rows: list[list[int]], four_bit: list[FourBitLayers], table: Grid
) -> None:
    """Round the linear layers of a SentenceTransformer's Gemma3 in place; its heads stay as they are.

    Args:
        model: the SentenceTransformer, attention implemented as "eager".
        rows: token ids of the calibration texts.
        four_bit: what gets 4 bits; the rest gets 8.
        table: what the export rounds the token table to: layers are calibrated on what 4 bits then give.

    Raises:
        InputError: no expression matches a linear layer, or blocks do not divide the inputs of one.
    """
    import torch
    from torch import nn

    encoder = model[0].auto_model
    layers = encoder.layers
    names = [name for name, module in layers.named_modules() if isinstance(module, nn.Linear)]
    if not any(re.search(entry.regex, name) for entry in four_bit for name in names):
        patterns = [entry.regex for entry in four_bit]
        raise InputError(f"rounding.four_bit {patterns} matches no linear layer of the model, such as {names[:2]}.")

    def choose_grid(number: int, name: str) -> Grid:
        matches = [entry.block for entry in four_bit if re.search(entry.regex, f"{number}.{name}")]
        if not matches:
            return EIGHT_BIT
        block = matches[-1]
        _require_division(block, layers[number].get_submodule(name).in_features, f"inputs of {number}.{name}")
        return Grid(4, block)

    _require_division(table.block, encoder.get_input_embeddings().weight.shape[1], "dimensions of the token table")
    with torch.no_grad():
        original, calls = _record_calls(encoder, layers, rows)
        with _round_table(encoder, table.block) if table.bits == 4 else nullcontext():
            rounded, _ = _record_calls(encoder, layers, rows)
    with bar("convert: rounding layers on calibration texts", len(layers)) as progress:
        round_layers(
            layers,
            Stream(original, rounded, calls),
            choose_grid,
            progress.update,
            NORMED,
        )


def _require_division(block: int | None, width: int, name: str) -> None:
    """Check that blocks fill a row.

    Raises:
        InputError: they do not.
    """
    if block and width % block:
        raise InputError(
            f"blocks of {block} do not divide the {width} {name}. Choose another granularity in the recipe's rounding "
            "and rules, such as BLOCKWISE_32, or CHANNELWISE."
        )


def _record_calls(
    encoder: "nn.Module", layers: "nn.ModuleList", rows: list[list[int]]
) -> "tuple[list[Tensor], list[list[Call]]]":
    """Return the hidden states before the first layer, and the other arguments of each layer's call, text by text."""
    import torch

    states: list[Tensor] = []
    calls: list[list[Call]] = [[] for _ in layers]

    def make_hook(number: int) -> "Callable[[object, tuple[Tensor, ...], dict[str, object]], None]":
        def hook(_: object, arguments: "tuple[Tensor, ...]", named: dict[str, object]) -> None:
            if number == 0:
                states.append(arguments[0])
            calls[number].append(Call(arguments[1:], named))

        return hook

    handles = [
        layer.register_forward_pre_hook(make_hook(number), with_kwargs=True) for number, layer in enumerate(layers)
    ]
    try:
        for row in rows:
            ids = torch.tensor([row])
            # Without a cache: layers run again later, on the arguments of these calls.
            encoder(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return states, calls


@contextmanager
def _round_table(encoder: "nn.Module", block: int | None) -> Iterator[None]:
    """Make the token table give its rows as they are in 4 bits; a factor on them changes nothing."""

    def hook(_: object, __: object, output: "Tensor") -> "Tensor":
        vectors = output.reshape(-1, output.shape[-1])
        return round_by_least_squares(vectors, block).reshape(output.shape)

    handle = encoder.get_input_embeddings().register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
