"""GPTQ (Frantar et al. 2022, arXiv:2210.17323): rounds a matrix so that its outputs on calibration inputs change least.

Columns are rounded in turn, and the error of each is spread over those not yet rounded, by the inverse Hessian. Callers
choose the grid that columns are rounded to.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# Share of the Hessian's mean diagonal that is added to it: GPTQ's own default.
DAMP = 0.01


def damp(hessian: "Tensor") -> "Tensor":
    """Return a Hessian [in, in], the sum of the inputs' outer products, made safe to invert."""
    import torch

    return hessian + DAMP * hessian.diagonal().mean() * torch.eye(len(hessian), dtype=hessian.dtype)


def factor_inverse(damped: "Tensor") -> "Tensor":
    """Return the upper Cholesky factor of the inverse of a damped Hessian: [in, in]."""
    import torch

    return torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)


def round_columns(
    weight: "Tensor",
    factor: "Tensor",
    round_column: "Callable[[int, Tensor], Tensor]",
    *,
    group: int,
    fused: bool,
) -> None:
    """Round the columns of a matrix in turn (the paper's algorithm 1); `round_column` keeps the codes.

    Args:
        weight: [out, in], left as it is.
        factor: what `factor_inverse` returns, in the weight's precision.
        round_column: of a column's number and the columns from it to the end of its group, with the errors of earlier
            ones in them [columns, out]: returns what the first of them is rounded to [out].
        group: columns rounded between two updates of all that follow.
        fused: whether an update multiplies and subtracts in one operation. Last bits depend on it, and now and then a
            code: a caller that changes it changes its files.
    """
    import torch

    rest = weight.clone()
    for start in range(0, weight.shape[1], group):
        columns = rest[:, start : start + group].T.contiguous()
        stop = start + len(columns)
        block = factor[start:stop, start:stop]
        errors = torch.empty_like(columns)
        for index, column in enumerate(columns):
            errors[index] = (column - round_column(start + index, columns[index:])) / block[index, index]
            later, shares = columns[index + 1 :], block[index, index + 1 :]
            if fused:
                later.addr_(shares, errors[index], alpha=-1)
            else:
                later -= torch.outer(shares, errors[index])
        rest[:, stop:] -= errors.T @ factor[start:stop, stop:]
