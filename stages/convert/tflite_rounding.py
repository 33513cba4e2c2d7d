"""Rounds a transformer's matrices before export, to a grid that ai-edge-quantizer then recovers without loss.

TFLite has one 4-bit grid a row of a matrix (codes -7..7 and an fp32 scale). Rounded to nearest on it, EmbeddingGemma's
feed-forward matrices cost more than all else; so codes are chosen by what they do to the outputs on calibration texts:

- GPTQ with activation order (Frantar et al. 2022, arXiv:2210.17323): the error of each column is spread over the rest;
- one sweep of coordinate descent: each code moves to its minimum given all others, and scales are refitted by least
  squares (QuantEase, Behdin et al. 2023, arXiv:2309.01885);
- layers in turn, on inputs that the layers before, already rounded, give: a matrix aims at the original outputs, so it
  also undoes part of what was lost before it (GPTAQ, Li et al. 2025, arXiv:2504.02692, here as a ridge regression).

The result is written back as floats that lie on the grid. The quantizer's own `dequantized_weight_recovery` reads codes
and scales off them again, so nothing here depends on the file format.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

# Share of the Hessian's mean diagonal added to it: GPTQ's default for rounding, and the ridge's pull towards the
# original weights. A tenth of that pull fitted the calibration texts better and others worse.
DAMP, RIDGE = 0.01, 1.0
# Fractions of a row's largest weight tried as its grid's end, in equal steps.
SHRINK, TRIES = 0.45, 23
# Columns rounded between two updates of the rest.
COLUMNS = 96


@dataclass(frozen=True)
class Call:
    """What a layer is called with beside the hidden states: further positional arguments, and named ones."""

    further: tuple[Any, ...]
    named: dict[str, Any]


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


def round_layers(
    layers: "Sequence[nn.Module]",
    stream: Stream,
    bits: Callable[[int, str], int],
    done: Callable[[int], object],
    normed: Collection[str] = (),
) -> Stream:
    """Round all linear layers in place and return the stream behind the last one.

    Args:
        layers: the transformer's layers, in order; each maps hidden states to hidden states (or a tuple of them first).
        stream: the hidden states before the first; `rounded` with the token table already rounded.
        bits: of a layer's number and a linear layer's name in it, such as (0, "mlp.down_proj"): 4 or 8.
        done: called with 1 after each layer, for progress.
        normed: names of linear layers whose output goes through a norm of its own (Gemma 3: "self_attn.o_proj" and
            "mlp.down_proj"): each token's error counts relative to its output.
    """
    import torch

    original, rounded = stream.original, stream.rounded
    with torch.no_grad():
        for number, (layer, calls) in enumerate(zip(layers, stream.calls, strict=True)):
            source = deepcopy(layer)
            aims, original = _inputs(source, original, calls, integer=False)
            for names in _groups(aims):
                found, _ = _inputs(layer, rounded, calls, integer=True)
                given = found[names[0]]
                weighted = given.T * (_relative(aims[names[0]], source, names[0]) if names[0] in normed else 1)
                hessian = weighted @ given
                drift = (weighted @ (aims[names[0]] - given)).T
                for name in names:
                    linear = layer.get_submodule(name)
                    aim = _corrected(linear.weight, hessian, drift)
                    four = bits(number, name) == 4
                    codes, scales = gptq(aim, hessian) if four else nearest(aim, 8)
                    linear.weight.copy_(codes * scales)
            _, rounded = _inputs(layer, rounded, calls, integer=True)
            done(1)
    return Stream(original, rounded, stream.calls)


def _relative(inputs: "Tensor", layer: "nn.Module", name: str) -> "Tensor":
    """Return one over the mean square of each token's output: [tokens]."""
    linear = layer.get_submodule(name)
    power: Tensor = linear(inputs).pow(2).mean(dim=-1)
    return 1 / power.clamp(min=1e-12)


def gptq(weight: "Tensor", hessian: "Tensor") -> "tuple[Tensor, Tensor]":
    """Return 4-bit codes [out, in] and row scales [out, 1] with little (w - q) H (w - q)' in each row.

    Args:
        weight: [out, in].
        hessian: [in, in], sum of outer products of the inputs.
    """
    import torch

    damped = hessian + DAMP * hessian.diagonal().mean() * torch.eye(len(hessian))
    order = damped.diagonal().argsort(descending=True, stable=True)
    damped, weight = damped[order][:, order], weight[:, order]
    inverse = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)
    scales = _scales(weight, damped.diagonal())
    codes = _spread(weight, scales, inverse)
    scales = _refitted(codes, weight, damped)
    codes = _descended(codes, scales, weight, damped)
    scales = _refitted(codes, weight, damped)
    back = torch.empty_like(codes)
    back[:, order] = codes
    return back, scales


def nearest(weight: "Tensor", bits: int) -> "tuple[Tensor, Tensor]":
    """Return codes and row scales with the largest weight of a row at the end of the grid: the quantizer's min-max."""
    end = (1 << (bits - 1)) - 1
    scales = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / end
    return (weight / scales).round().clamp(-end, end), scales


def least_squares(weight: "Tensor") -> "Tensor":
    """Return a matrix rounded to 4 bits with the row scales that lose least, near what the quantizer's OCTAV gives."""
    import torch

    scales = _scales(weight, torch.ones(weight.shape[1]))
    return (weight / scales).round().clamp(-7, 7) * scales


def _scales(weight: "Tensor", importance: "Tensor") -> "Tensor":
    """Return row scales [out, 1] with the least squared error, columns weighted by their inputs' power."""
    import torch

    largest = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 7
    best, least = largest, torch.full_like(largest, torch.inf)
    for shrink in torch.linspace(1, SHRINK, TRIES):
        scales = largest * shrink
        lost = ((weight / scales).round().clamp(-7, 7) * scales - weight) ** 2 @ importance[:, None]
        best, least = torch.where(lost < least, scales, best), torch.minimum(lost, least)
    return best


def _spread(weight: "Tensor", scales: "Tensor", inverse: "Tensor") -> "Tensor":
    """Return the codes of GPTQ's algorithm 1; `inverse` is the upper Cholesky factor of the inverse Hessian."""
    import torch

    rest, codes = weight.clone(), torch.empty_like(weight)
    for start in range(0, weight.shape[1], COLUMNS):
        part = rest[:, start : start + COLUMNS].T.contiguous()
        factor = inverse[start : start + len(part), start : start + len(part)]
        errors = torch.empty_like(part)
        for at, column in enumerate(part):
            code = (column / scales[:, 0]).round().clamp(-7, 7)
            codes[:, start + at] = code
            errors[at] = (column - code * scales[:, 0]) / factor[at, at]
            part[at + 1 :].addr_(factor[at, at + 1 :], errors[at], alpha=-1)
        rest[:, start + len(part) :] -= errors.T @ inverse[start : start + len(part), start + len(part) :]
    return codes


def _descended(codes: "Tensor", scales: "Tensor", weight: "Tensor", hessian: "Tensor") -> "Tensor":
    """Return the codes after one sweep that moves each to its minimum given all others."""
    import torch

    codes, slope = codes.clone(), (codes * scales - weight) @ hessian
    for start in range(0, weight.shape[1], COLUMNS):
        part = slope[:, start : start + COLUMNS].T.contiguous()
        rows = hessian[start : start + len(part)]
        moves = torch.empty_like(part)
        for at in range(len(part)):
            curve = rows[at, start : start + len(part)]
            before = codes[:, start + at].clone()
            code = (before - part[at] / (curve[at] * scales[:, 0])).round().clamp(-7, 7)
            codes[:, start + at] = code
            moves[at] = (code - before) * scales[:, 0]
            part.addr_(curve, moves[at])
        slope += moves.T @ rows
    return codes


def _refitted(codes: "Tensor", weight: "Tensor", hessian: "Tensor") -> "Tensor":
    """Return the row scales with the least error for the codes."""
    bent = codes @ hessian
    fit = (bent * weight).sum(1, keepdim=True) / (bent * codes).sum(1, keepdim=True).clamp(min=1e-20)
    return fit.clamp(min=1e-12)


def _corrected(weight: "Tensor", hessian: "Tensor", drift: "Tensor") -> "Tensor":
    """Return W' with least |W' given - W aim|^2 + ridge |W' - W|^2; `drift` is (aim - given)' given."""
    import torch

    ridge = hessian + RIDGE * hessian.diagonal().mean() * torch.eye(len(hessian))
    return weight + torch.cholesky_solve((weight @ drift).T, torch.linalg.cholesky(ridge)).T


def _inputs(
    layer: "nn.Module", hidden: "list[Tensor]", calls: list[Call], *, integer: bool
) -> "tuple[dict[str, Tensor], list[Tensor]]":
    """Run a layer on all texts; return each linear layer's inputs [tokens, in], in call order, and the outputs.

    Args:
        layer: the layer.
        hidden: its inputs.
        calls: what else each call gets.
        integer: round the linear layers' inputs as the kernels do.
    """
    import torch

    seen: dict[str, list[Tensor]] = {}
    outputs = []
    with _probes(layer, seen, integer=integer):
        for states, call in zip(hidden, calls, strict=True):
            result = layer(states, *call.further, **call.named)
            outputs.append(result[0] if isinstance(result, tuple) else result)
    return {name: torch.cat(rows) for name, rows in seen.items()}, outputs


@contextmanager
def _probes(layer: "nn.Module", seen: "dict[str, list[Tensor]]", *, integer: bool) -> Iterator[None]:
    """Collect what the linear layers are fed."""
    from torch import nn

    def probe(name: str) -> Any:  # noqa: ANN401 - a torch hook
        def hook(_: object, given: "tuple[Tensor]") -> "tuple[Tensor]":
            value = eight_bit(given[0]) if integer else given[0]
            seen.setdefault(name, []).append(value.reshape(-1, value.shape[-1]))
            return (value,)

        return hook

    linears = [(name, one) for name, one in layer.named_modules() if isinstance(one, nn.Linear)]
    handles = [one.register_forward_pre_hook(probe(name)) for name, one in linears]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def eight_bit(values: "Tensor") -> "Tensor":
    """Round activations as XNNPACK's dynamic quantisation does (qd8): asymmetric, a scale a row, zero on the grid."""
    low = values.amin(dim=-1, keepdim=True).clamp(max=0)
    high = values.amax(dim=-1, keepdim=True).clamp(min=0)
    scale = (high - low).clamp(min=1e-12) / 255
    zero = (-128 - low / scale).round()
    return (((values / scale).round() + zero).clamp(-128, 127) - zero) * scale


def _groups(inputs: "dict[str, Tensor]") -> list[list[str]]:
    """Return the names of linear layers that share an input, groups in call order."""
    groups: list[list[str]] = []
    for name, value in inputs.items():
        if groups and value.equal(inputs[groups[-1][0]]):
            groups[-1].append(name)
        else:
            groups.append([name])
    return groups
