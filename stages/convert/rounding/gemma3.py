"""Rounds a Gemma3's layers before a TFLite export, on what calibration texts feed them.

BERT is left out: litert-torch merges a matrix with the norm before it, which takes it off its grid.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from embed_foundry.errors import InputError
from embed_foundry.progress import bar

from stages.convert.rounding.inputs import Call
from stages.convert.rounding.layers import Stream, round_layers
from stages.convert.rounding.rows import round_by_least_squares

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor, nn

# Their outputs go through a norm of their own: see `round_layers`.
NORMED = {"self_attn.o_proj", "mlp.down_proj"}


def round_model(model: "SentenceTransformer", rows: list[list[int]], four_bit: list[str], *, round_table: bool) -> None:
    """Round the linear layers of a SentenceTransformer's Gemma3 in place; its heads stay as they are.

    Args:
        model: the SentenceTransformer, attention implemented as "eager".
        rows: token ids of the calibration texts.
        four_bit: regular expressions searched in names such as "12.mlp.down_proj"; what none matches gets 8 bits.
        round_table: the export will round the token table to 4 bits too, so calibrate layers on what it then gives.

    Raises:
        InputError: no expression matches a linear layer.
    """
    import torch
    from torch import nn

    encoder = model[0].auto_model
    layers = encoder.layers
    names = [name for name, module in layers.named_modules() if isinstance(module, nn.Linear)]
    patterns = [re.compile(pattern) for pattern in four_bit]
    if not any(pattern.search(name) for pattern in patterns for name in names):
        raise InputError(f"rounding.four_bit {four_bit} matches no linear layer of the model, such as {names[:2]}.")
    with torch.no_grad():
        original, calls = _record_calls(encoder, layers, rows)
        with _round_table(encoder) if round_table else nullcontext():
            rounded, _ = _record_calls(encoder, layers, rows)
    with bar("convert: rounding layers on calibration texts", len(layers)) as progress:
        round_layers(
            layers,
            Stream(original, rounded, calls),
            lambda number, name: 4 if any(pattern.search(f"{number}.{name}") for pattern in patterns) else 8,
            progress.update,
            NORMED,
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
def _round_table(encoder: "nn.Module") -> Iterator[None]:
    """Make the token table give its rows as they are in 4 bits, one scale per row; a factor on them changes nothing."""

    def hook(_: object, __: object, output: "Tensor") -> "Tensor":
        vectors = output.reshape(-1, output.shape[-1])
        return round_by_least_squares(vectors).reshape(output.shape)

    handle = encoder.get_input_embeddings().register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
