"""Rounds a transformer's matrices before export, to a grid that ai-edge-quantizer then recovers without loss.

TFLite has a 4-bit grid for each row of a matrix, or for each block of a row (codes -7..7, a scale). Rounded to nearest,
EmbeddingGemma's feed-forward matrices cost more than all else, so GPTQ chooses the codes. Layers are rounded in turn,
on the inputs that the rounded layers before them give: a matrix aims at the original outputs, so it also undoes part of
what was lost before it (GPTAQ, Li et al. 2025, arXiv:2504.02692, here as a ridge regression).

The result is written back as floats that lie on the grid. The quantizer's own `dequantized_weight_recovery` reads codes
and scales off them again, so nothing here depends on the file format.
"""

from collections.abc import Callable, Collection, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.convert.rounding import rows
from stages.convert.rounding.inputs import Call, collect_inputs, group_by_input

if TYPE_CHECKING:
    from torch import Tensor, nn

# The ridge's pull towards the original weights, as a share of the Hessian's mean diagonal. A tenth of it fitted the
# calibration texts better and others worse.
RIDGE = 1.0


@dataclass(frozen=True)
class Stream:
    """Hidden states of the calibration texts before the first layer, and how the model calls each layer.

    Attributes:
        original, rounded: one tensor [1, tokens, width] a text.
        calls: for each layer, the call of each text; masks and positions differ between kinds of layers.
    """

    original: list["Tensor"]
    rounded: list["Tensor"]
    calls: list[list[Call]]


@dataclass(frozen=True)
class Grid:
    """What a matrix is rounded to.

    Attributes:
        bits: 4 or 8.
        block: how many weights of a row share a scale; None: all. For 4 bits only.
    """

    bits: int
    block: int | None = None


EIGHT_BIT = Grid(8)


def round_layers(
    layers: "Sequence[nn.Module]",
    stream: Stream,
    choose_grid: Callable[[int, str], Grid],
    advance: Callable[[int], object],
    normed: Collection[str] = (),
) -> Stream:
    """Round all linear layers in place and return the stream behind the last one.

    Args:
        layers: the transformer's layers, in order; each maps hidden states to hidden states (or a tuple of them first).
        stream: the hidden states before the first; `rounded` with the token table already rounded.
        choose_grid: of a layer's number and a linear layer's name in it, such as (0, "mlp.down_proj").
        advance: called with 1 after each layer, for progress.
        normed: names of linear layers whose output goes through a norm of its own (Gemma 3: "self_attn.o_proj" and
            "mlp.down_proj"): each token's error counts relative to its output.
    """
    import torch

    original, rounded = stream.original, stream.rounded
    with torch.no_grad():
        for number, (layer, calls) in enumerate(zip(layers, stream.calls, strict=True)):
            source = deepcopy(layer)
            targets, original = collect_inputs(source, original, calls, integer=False)
            for names in group_by_input(targets):
                inputs, _ = collect_inputs(layer, rounded, calls, integer=True)
                first = names[0]
                weights = _weigh_tokens(targets[first], source, first) if first in normed else 1
                _round_linears(
                    {name: layer.get_submodule(name) for name in names},
                    inputs[first],
                    targets[first],
                    weights,
                    {name: choose_grid(number, name) for name in names},
                )
            _, rounded = collect_inputs(layer, rounded, calls, integer=True)
            advance(1)
    return Stream(original, rounded, stream.calls)


def _round_linears(
    linears: "dict[str, nn.Module]",
    inputs: "Tensor",
    targets: "Tensor",
    weights: "Tensor | int",
    grids: dict[str, Grid],
) -> None:
    """Round linear layers that share an input, in place.

    Args:
        linears: by name.
        inputs: what they get in the rounded model, [tokens, in].
        targets: what they get in the original one, likewise.
        weights: how much each token's error counts, [tokens] or 1.
        grids: of each.
    """
    weighted = inputs.T * weights
    hessian = weighted @ inputs
    drift = (weighted @ (targets - inputs)).T
    for name, linear in linears.items():
        corrected = correct_weight(linear.weight, hessian, drift)
        if grids[name].bits == 4:
            codes, scales = rows.round_by_gptq(corrected, hessian, grids[name].block)
        else:
            codes, scales = rows.round_to_nearest(corrected, grids[name].bits)
        linear.weight.copy_(codes * scales)


def _weigh_tokens(inputs: "Tensor", layer: "nn.Module", name: str) -> "Tensor":
    """Return one over the mean square of each token's output: [tokens]."""
    linear = layer.get_submodule(name)
    power: Tensor = linear(inputs).pow(2).mean(dim=-1)
    return 1 / power.clamp(min=1e-12)


def correct_weight(weight: "Tensor", hessian: "Tensor", drift: "Tensor") -> "Tensor":
    """Return W' with least |W' inputs - W targets|^2 + ridge |W' - W|^2; `drift` is (targets - inputs)' inputs."""
    import torch

    ridge = hessian + RIDGE * hessian.diagonal().mean() * torch.eye(len(hessian))
    return weight + torch.cholesky_solve((weight @ drift).T, torch.linalg.cholesky(ridge)).T
