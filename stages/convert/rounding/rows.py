"""TFLite's grid: integers with one scale for each row of a matrix, rounded to nearest, by least squares or by GPTQ.

GPTQ takes columns in the order of their inputs' power (its "activation order"), and is followed by one sweep of
coordinate descent, in which each code moves to its minimum given all others and scales are refitted by least squares
(QuantEase, Behdin et al. 2023, arXiv:2309.01885).
"""

from typing import TYPE_CHECKING

from stages.convert.rounding import gptq

if TYPE_CHECKING:
    from torch import Tensor

# Largest 4-bit code; -8 is not used.
LIMIT = 7
# Fractions of a row's largest weight tried as the end of its grid, in equal steps.
SHRINK, TRIES = 0.45, 23
# Columns rounded between two updates of the rest.
GROUP = 96


def round_by_gptq(weight: "Tensor", hessian: "Tensor") -> "tuple[Tensor, Tensor]":
    """Return 4-bit codes [out, in] and row scales [out, 1] with little (w - q) H (w - q)' in each row.

    Args:
        weight: [out, in].
        hessian: [in, in], sum of outer products of the inputs.
    """
    import torch

    damped = gptq.damp(hessian)
    order = damped.diagonal().argsort(descending=True, stable=True)
    damped, weight = damped[order][:, order], weight[:, order]
    scales = _find_scales(weight, damped.diagonal())
    codes = torch.empty_like(weight)

    def round_column(number: int, columns: "Tensor") -> "Tensor":
        code = _limit(columns[0] / scales[:, 0])
        codes[:, number] = code
        return code * scales[:, 0]

    gptq.round_columns(weight, gptq.factor_inverse(damped), round_column, group=GROUP, fused=True)
    scales = _refit_scales(codes, weight, damped)
    codes = _descend(codes, scales, weight, damped)
    scales = _refit_scales(codes, weight, damped)
    restored = torch.empty_like(codes)
    restored[:, order] = codes
    return restored, scales


def round_to_nearest(weight: "Tensor", bits: int) -> "tuple[Tensor, Tensor]":
    """Return codes and row scales with the largest weight of a row at the end of the grid: the quantizer's min-max."""
    end = (1 << (bits - 1)) - 1
    scales = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / end
    return (weight / scales).round().clamp(-end, end), scales


def round_by_least_squares(weight: "Tensor") -> "Tensor":
    """Return a matrix rounded to 4 bits with the row scales that lose least, near what the quantizer's OCTAV gives."""
    import torch

    scales = _find_scales(weight, torch.ones(weight.shape[1]))
    return _limit(weight / scales) * scales


def _limit(steps: "Tensor") -> "Tensor":
    """Return the nearest codes that 4 bits have."""
    return steps.round().clamp(-LIMIT, LIMIT)


def _find_scales(weight: "Tensor", importance: "Tensor") -> "Tensor":
    """Return row scales [out, 1] with the least squared error, columns weighted by their inputs' power."""
    import torch

    largest = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / LIMIT
    best, least = largest, torch.full_like(largest, torch.inf)
    for shrink in torch.linspace(1, SHRINK, TRIES):
        scales = largest * shrink
        error = (_limit(weight / scales) * scales - weight) ** 2 @ importance[:, None]
        best, least = torch.where(error < least, scales, best), torch.minimum(error, least)
    return best


def _descend(codes: "Tensor", scales: "Tensor", weight: "Tensor", hessian: "Tensor") -> "Tensor":
    """Return the codes after one sweep that moves each to its minimum given all others."""
    import torch

    codes, slope = codes.clone(), (codes * scales - weight) @ hessian
    for start in range(0, weight.shape[1], GROUP):
        columns = slope[:, start : start + GROUP].T.contiguous()
        rows = hessian[start : start + len(columns)]
        moves = torch.empty_like(columns)
        for index in range(len(columns)):
            curve = rows[index, start : start + len(columns)]
            before = codes[:, start + index].clone()
            code = _limit(before - columns[index] / (curve[index] * scales[:, 0]))
            codes[:, start + index] = code
            moves[index] = (code - before) * scales[:, 0]
            columns.addr_(curve, moves[index])
        slope += moves.T @ rows
    return codes


def _refit_scales(codes: "Tensor", weight: "Tensor", hessian: "Tensor") -> "Tensor":
    """Return the row scales with the least error for the codes."""
    weighted = codes @ hessian
    fit = (weighted * weight).sum(1, keepdim=True) / (weighted * codes).sum(1, keepdim=True).clamp(min=1e-20)
    return fit.clamp(min=1e-12)
