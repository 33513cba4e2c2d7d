"""TFLite's grids: integers with one scale for each row of a matrix, or for each block of a row; to nearest or by GPTQ.

GPTQ takes columns in the order of their inputs' power (its "activation order"), and is followed by sweeps of coordinate
descent, in which each code moves to its minimum given all others and scales are refitted by least squares (QuantEase,
Behdin et al. 2023, arXiv:2309.01885).
"""

from typing import TYPE_CHECKING

from stages.convert.rounding import gptq

if TYPE_CHECKING:
    from torch import Tensor

# Largest 4-bit code; -8 is not used.
LIMIT = 7
# Fractions of a block's largest weight tried as the end of its grid, in equal steps.
SHRINK, TRIES = 0.45, 23
# Columns rounded between two updates of the rest.
GROUP = 96
# Pairs of refitted scales and moved codes after GPTQ. With tests/test_convert_rounding.py's matrix the error on other
# inputs falls from 0.196 of that of rounding to nearest to 0.173, 0.166 and 0.164 by one, two and three.
SWEEPS = 2
# What is added to the diagonal of the equations of a row's scales, as a share of its mean: a block whose codes are all
# zero has none of its own.
RIDGE = 1e-4
# A refitted scale further away than this factor comes of equations with hardly any solution.
REFIT_MAX = 2.0


def round_by_gptq(weight: "Tensor", hessian: "Tensor", block: int | None = None) -> "tuple[Tensor, Tensor]":
    """Return 4-bit codes and their scales, both [out, in], with little (w - q) H (w - q)' in each row.

    Args:
        weight: [out, in].
        hessian: [in, in], sum of outer products of the inputs.
        block: how many weights of a row share a scale; it divides `in`. None: all.
    """
    import torch

    size = block or weight.shape[1]
    damped = gptq.damp(hessian)
    order = damped.diagonal().argsort(descending=True, stable=True)
    ordered, columns = damped[order][:, order], weight[:, order]
    scales = _find_scales(weight, damped.diagonal(), size)
    steps = _spread(scales, size)[:, order]
    codes = torch.empty_like(weight)

    def round_column(number: int, rest: "Tensor") -> "Tensor":
        codes[:, number] = _limit(rest[0] / steps[:, number])
        return codes[:, number] * steps[:, number]

    gptq.round_columns(columns, gptq.factor_inverse(ordered), round_column, group=GROUP, fused=True)
    back = order.argsort()
    for _ in range(SWEEPS):
        scales = _refit_scales(codes[:, back], scales, weight, damped)
        codes = _descend(codes, _spread(scales, size)[:, order], columns, ordered)
    codes = codes[:, back]
    if block is None:  # scales of blocks are stored in few digits: codes that fit those come last
        scales = _refit_scales(codes, scales, weight, damped)
    return _make_readable(codes, weight / _spread(scales, size), size), _spread(scales, size)


def round_to_nearest(weight: "Tensor", bits: int) -> "tuple[Tensor, Tensor]":
    """Return codes and row scales with the largest weight of a row at the end of the grid: the quantizer's min-max."""
    end = (1 << (bits - 1)) - 1
    scales = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / end
    return (weight / scales).round().clamp(-end, end), scales


def round_by_least_squares(weight: "Tensor", block: int | None = None) -> "Tensor":
    """Return a matrix rounded to 4 bits with the scales that lose least, near what the quantizer's OCTAV gives."""
    import torch

    size = block or weight.shape[1]
    scales = _spread(_find_scales(weight, torch.ones(weight.shape[1]), size), size)
    return _limit(weight / scales) * scales


def _make_readable(codes: "Tensor", steps: "Tensor", size: int) -> "Tensor":
    """Return codes off which the quantizer reads the scale of each block, as the least step between two sizes.

    Where one weight is far above all others, sizes may be 0, 2 and 7, say, whose least step is 2. There the weight that
    is nearest to it becomes 1 or -1.

    Args:
        codes: [out, in].
        steps: the weights over their scales, likewise.
        size: of a block.
    """
    import torch

    blocks, exact = codes.reshape(-1, size).clone(), steps.reshape(-1, size)
    sizes = torch.arange(1, LIMIT + 1)
    present = (blocks.abs()[:, None] == sizes[:, None]).any(dim=2)
    readable = present[:, 0] | (present[:, 1:] & present[:, :-1]).any(dim=1) | ~present.any(dim=1)
    for block in (~readable).nonzero()[:, 0].tolist():
        ones = torch.where(exact[block] < 0, -1.0, 1.0)
        place = ((exact[block] - ones) ** 2 - (exact[block] - blocks[block]) ** 2).argmin()
        blocks[block, place] = ones[place]
    return blocks.reshape(codes.shape)


def _limit(steps: "Tensor") -> "Tensor":
    """Return the nearest codes that 4 bits have."""
    return steps.round().clamp(-LIMIT, LIMIT)


def _spread(scales: "Tensor", size: int) -> "Tensor":
    """Return the scale of each weight: [out, blocks] -> [out, in]."""
    return scales.repeat_interleave(size, dim=1)


def _store(scales: "Tensor") -> "Tensor":
    """Return scales as a file keeps them: those of blocks with the digits of bfloat16, those of rows in fp32."""
    import torch

    return scales if scales.shape[1] == 1 else scales.to(torch.bfloat16).to(torch.float32)


def _find_scales(weight: "Tensor", importance: "Tensor", size: int) -> "Tensor":
    """Return scales [out, blocks] with the least squared error, columns weighted by their inputs' power."""
    import torch

    blocks, power = weight.reshape(len(weight), -1, size), importance.reshape(-1, size)
    largest = blocks.abs().amax(dim=2).clamp(min=1e-12) / LIMIT
    best, least = _store(largest), torch.full_like(largest, torch.inf)
    for shrink in torch.linspace(1, SHRINK, TRIES):
        scales = _store(largest * shrink)
        steps = scales[..., None]
        error = torch.einsum("rbi,bi->rb", (_limit(blocks / steps) * steps - blocks) ** 2, power)
        best, least = torch.where(error < least, scales, best), torch.minimum(error, least)
    return best


def _descend(codes: "Tensor", steps: "Tensor", weight: "Tensor", hessian: "Tensor") -> "Tensor":
    """Return the codes after one sweep that moves each to its minimum given all others."""
    import torch

    codes, slope = codes.clone(), (codes * steps - weight) @ hessian
    for start in range(0, weight.shape[1], GROUP):
        columns = slope[:, start : start + GROUP].T.contiguous()
        rows = hessian[start : start + len(columns)]
        moves = torch.empty_like(columns)
        for index in range(len(columns)):
            curve, step = rows[index, start : start + len(columns)], steps[:, start + index]
            before = codes[:, start + index].clone()
            code = _limit(before - columns[index] / (curve[index] * step))
            codes[:, start + index] = code
            moves[index] = (code - before) * step
            columns.addr_(curve, moves[index])
        slope += moves.T @ rows
    return codes


def _refit_scales(codes: "Tensor", scales: "Tensor", weight: "Tensor", hessian: "Tensor") -> "Tensor":
    """Return the scales [out, blocks] with the least error for the codes: a row's are the solution of its equations."""
    import torch

    outputs, count = scales.shape
    size = weight.shape[1] // count
    products = torch.empty(outputs, count, count)
    for block in range(count):
        part = slice(block * size, (block + 1) * size)
        products[:, block] = ((codes[:, part] @ hessian[part]) * codes).reshape(outputs, count, size).sum(2)
    diagonal = products.diagonal(dim1=1, dim2=2)
    diagonal += RIDGE * diagonal.mean(1, keepdim=True) + 1e-20
    residual = (weight - codes * _spread(scales, size)) @ hessian
    slope = (residual * codes).reshape(outputs, count, size).sum(2)
    fit = scales + torch.linalg.solve(products, slope[..., None])[..., 0]
    return _store(torch.where((fit > scales / REFIT_MAX) & (fit < scales * REFIT_MAX), fit, scales))
