"""Rotary positions (Su et al. 2021, arXiv:2104.09864) from small tables."""

import torch
from torch import Tensor, nn

# Rows of a table, and so positions that share a row of the next one.
ROWS = 64
# The tables' names in a graph, from single positions on.
TABLES = ("fine", "coarse", "far")


class RotaryTable(nn.Module):
    """Cosines and sines of rotary positions.

    A position is rotated by the largest step of each table in turn, as its digits to the base of ROWS say. One table of
    all positions takes 8 MB for 2048, 4 % of a 4-bit variant; angles computed from position numbers are wrong where a
    runtime computes in bf16.

    Args:
        theta: the base of the angles.
        width: of a head.
        length: number of positions, up to 262,144.
    """

    def __init__(self, theta: float, width: int, length: int) -> None:
        super().__init__()
        angles = 1.0 / theta ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
        self.steps: dict[str, int] = {}
        step = 1
        for name in TABLES:
            if self.steps and step >= length:
                break
            last = name == TABLES[-1]
            positions = torch.arange(0, length if last else min(length, step * ROWS), step, dtype=torch.float32)
            table = torch.outer(positions, angles)
            self.register_buffer(f"{name}_cosine", table.cos())
            self.register_buffer(f"{name}_sine", table.sin())
            self.steps[name] = step
            step *= ROWS

    def forward(self, length: int) -> tuple[Tensor, Tensor]:
        """Return cosines and sines of positions 0 to length - 1: each [length, width]."""
        rest = torch.arange(length)
        largest, *others = reversed(self.steps.items())
        cosine, sine, rest = self._look_up(*largest, rest)
        for name, step in others:
            next_cosine, next_sine, rest = self._look_up(name, step, rest)
            cosine, sine = cosine * next_cosine - sine * next_sine, sine * next_cosine + cosine * next_sine
        return cosine.repeat(1, 2), sine.repeat(1, 2)

    def _look_up(self, name: str, step: int, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return a table's cosines and sines of positions, and the positions' distances from its rows."""
        row = position // step if step > 1 else position
        cosine, sine = getattr(self, f"{name}_cosine")[row], getattr(self, f"{name}_sine")[row]
        return cosine, sine, position % step if step > 1 else position


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate the halves of the last axis against each other."""
    left, right = x.chunk(2, -1)
    return x * cosine + torch.cat([-right, left], -1) * sine
