"""What the encoders written for export have in common: norms, attention in blocks, joined projections."""

import torch
from torch import Tensor, nn

# Added to masked scores. Finite: -inf gives NaN in rows that see padding only, as most rows of a short text do.
MASKED = -1e9
# Query rows of a block of a sliding layer: they see the block's own keys and those within the window's reach.
BLOCK = 256


class Norm(nn.Module):
    """Root mean square norm (Zhang and Sennrich 2019, arXiv:1910.07467).

    Args:
        weight: factor of each element after the norm.
        epsilon: added to the mean square.
    """

    def __init__(self, weight: Tensor, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis."""
        return x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon) * self.weight


class AttentionPlan:
    """Which queries attend to which keys: query rows by block, the keys each block reaches, and the masks.

    Args:
        mask: [b, t], 1 for a token, 0 for padding.
        reach: tokens that a position of a sliding layer sees to either side.
        whole: longest text whose sliding layers are computed in one block.

    Attributes:
        rows: [n, r] positions of the queries of each of n blocks; the last block repeats the last position.
        keys: [n, w] positions of the keys of each block.
        full: [b, 1, 1, t] what full attention adds to its scores.
        window: [b, n, 1, r, w] what sliding attention adds to its scores.
    """

    def __init__(self, mask: Tensor, reach: int, whole: int) -> None:
        # A tensor, not a Python number: the exported graph computes the plan for the length it is given.
        length = torch.tensor(mask.shape[1])
        blocks = torch.where(length > whole, (length + BLOCK - 1) // BLOCK, torch.ones_like(length))
        size = (length + blocks - 1) // blocks
        width = torch.minimum(size + 2 * reach, length)
        first = torch.arange(blocks) * size
        rows = first[:, None] + torch.arange(size)
        self.keys = torch.minimum((first - reach).clamp(min=0), length - width)[:, None] + torch.arange(width)
        near = (rows[:, :, None] - self.keys[:, None, :]).abs() <= reach
        padding = (1 - mask.to(torch.float32)) * MASKED
        self.rows = torch.minimum(rows, length - 1)
        self.full = padding[:, None, None, :]
        window = torch.where(near, 0.0, MASKED)
        self.window = torch.minimum(window, padding[:, self.keys][:, :, None, :])[:, :, None]


def join_linear(*weights: Tensor) -> nn.Linear:
    """Return one linear layer that computes the outputs of all these matrices, in their order."""
    weight = torch.cat(weights)
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    return linear


def select_weights(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the weights whose names have a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
