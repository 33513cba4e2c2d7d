"""What a layer's linear layers are fed on calibration texts, rounded to 8 bits as the kernels round it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Call:
    """What a layer is called with beside the hidden states: further positional arguments, and named ones."""

    further: tuple[object, ...]
    named: dict[str, object]


def collect_inputs(
    layer: "nn.Module", hidden: "list[Tensor]", calls: list[Call], *, integer: bool
) -> "tuple[dict[str, Tensor], list[Tensor]]":
    """Run a layer on all texts; return each linear layer's inputs [tokens, in], in call order, and the outputs.

    Args:
        layer: the layer.
        hidden: its inputs.
        calls: the other arguments of each call.
        integer: round the linear layers' inputs as the kernels do.
    """
    import torch

    collected: dict[str, list[Tensor]] = {}
    outputs = []
    with _observe(layer, collected, integer=integer):
        for states, call in zip(hidden, calls, strict=True):
            result = layer(states, *call.further, **call.named)
            outputs.append(result[0] if isinstance(result, tuple) else result)
    return {name: torch.cat(values) for name, values in collected.items()}, outputs


def group_by_input(inputs: "dict[str, Tensor]") -> list[list[str]]:
    """Return the names of linear layers that share an input, groups in call order."""
    groups: list[list[str]] = []
    for name, value in inputs.items():
        if groups and value.equal(inputs[groups[-1][0]]):
            groups[-1].append(name)
        else:
            groups.append([name])
    return groups


@contextmanager
def _observe(layer: "nn.Module", collected: "dict[str, list[Tensor]]", *, integer: bool) -> Iterator[None]:
    """Collect the inputs of the linear layers, by name, while the block runs."""
    from torch import nn

    def make_hook(name: str) -> "Callable[[object, tuple[Tensor]], tuple[Tensor]]":
        def hook(_: object, arguments: "tuple[Tensor]") -> "tuple[Tensor]":
            value = round_to_8_bits(arguments[0]) if integer else arguments[0]
            collected.setdefault(name, []).append(value.reshape(-1, value.shape[-1]))
            return (value,)

        return hook

    linears = [(name, module) for name, module in layer.named_modules() if isinstance(module, nn.Linear)]
    handles = [linear.register_forward_pre_hook(make_hook(name)) for name, linear in linears]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def round_to_8_bits(values: "Tensor") -> "Tensor":
    """Round activations like XNNPACK's dynamic quantisation (qd8): asymmetric, one scale per row, zero on the grid."""
    low = values.amin(dim=-1, keepdim=True).clamp(max=0)
    high = values.amax(dim=-1, keepdim=True).clamp(min=0)
    scale = (high - low).clamp(min=1e-12) / 255
    zero = (-128 - low / scale).round()
    return (((values / scale).round() + zero).clamp(-128, 127) - zero) * scale
