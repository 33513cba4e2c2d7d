"""A Gemma3's layers, and what calibration texts feed them: where rounding before a TFLite export starts from.

BERT is left out: litert-torch merges a matrix with the norm before it, which takes it off its grid.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from embed_foundry.errors import InputError

from stages.common.contract.progress import bar
from stages.convert import tflite_rounding

if TYPE_CHECKING:
    from torch import Tensor, nn

# Their outputs go through a norm of their own: see `round_layers`.
NORMED = {"self_attn.o_proj", "mlp.down_proj"}


def round_model(model: Any, rows: list[list[int]], four_bit: list[str], *, table: bool) -> None:  # noqa: ANN401
    """Round the linear layers of a SentenceTransformer's Gemma3 in place; its heads stay as they are.

    Args:
        model: the SentenceTransformer, attention implemented as "eager".
        rows: token ids of the calibration texts.
        four_bit: regular expressions searched in names such as "12.mlp.down_proj"; what none matches gets 8 bits.
        table: the token table will have 4 bits too: layers are calibrated on what it then gives.

    Raises:
        InputError: no expression matches a linear layer.
    """
    import torch
    from torch import nn

    encoder = model[0].auto_model
    layers = encoder.layers
    names = [name for name, one in layers.named_modules() if isinstance(one, nn.Linear)]
    patterns = [re.compile(pattern) for pattern in four_bit]
    if not any(pattern.search(name) for pattern in patterns for name in names):
        raise InputError(f"rounding.four_bit {four_bit} matches no linear layer of the model, such as {names[:2]}.")
    with torch.no_grad():
        original, calls = _states(encoder, layers, rows)
        with _rounded_table(encoder) if table else nullcontext():
            rounded, _ = _states(encoder, layers, rows)
    with bar("convert: rounding layers on calibration texts", len(layers)) as shown:
        tflite_rounding.round_layers(
            layers,
            tflite_rounding.Stream(original, rounded, calls),
            lambda number, name: 4 if any(pattern.search(f"{number}.{name}") for pattern in patterns) else 8,
            shown.update,
            NORMED,
        )


def _states(
    encoder: "nn.Module", layers: "nn.ModuleList", rows: list[list[int]]
) -> "tuple[list[Tensor], list[list[tflite_rounding.Call]]]":
    """Return the hidden states before the first layer, and what else each layer was called with, text by text."""
    import torch

    states: list[Tensor] = []
    calls: list[list[tflite_rounding.Call]] = [[] for _ in layers]

    def watch(number: int) -> Any:  # noqa: ANN401 - a torch hook
        def hook(_: object, given: "tuple[Tensor, ...]", named: dict[str, Any]) -> None:
            if number == 0:
                states.append(given[0])
            calls[number].append(tflite_rounding.Call(given[1:], named))

        return hook

    handles = [layer.register_forward_pre_hook(watch(number), with_kwargs=True) for number, layer in enumerate(layers)]
    try:
        for row in rows:
            ids = torch.tensor([row])
            encoder(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)  # layers run again later
    finally:
        for handle in handles:
            handle.remove()
    return states, calls


@contextmanager
def _rounded_table(encoder: Any) -> Iterator[None]:  # noqa: ANN401
    """Let the token table give its rows as they are in 4 bits, a scale a row; a factor on them changes nothing."""

    def hook(_: object, __: object, found: "Tensor") -> "Tensor":
        flat = found.reshape(-1, found.shape[-1])
        return tflite_rounding.least_squares(flat).reshape(found.shape)

    handle = encoder.get_input_embeddings().register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
