"""ONNX's grid: integers with one scale for each block of a row, rounded to nearest or by GPTQ."""

import numpy as np
from numpy.typing import NDArray

from stages.convert.rounding import gptq

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]
# Fractions of the largest weight tried as a block's scale at 4 bits: clipping one outlier rounds all others finer.
SHRINK = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75)
# Rows of an embedding that are rounded at once: bounds memory.
ROWS = 8192
# Columns that GPTQ rounds between two updates: its own default.
GROUP = 128


def find_scales(blocks: Floats, bits: int) -> Floats:
    """Return the scale of each block with the least squared error: [..., block] -> [..., 1], rounded to fp16.

    The largest weight maps to the integer that has no opposite (-8 of 4 bits), so a scale may be negative.
    """
    half = 1 << (bits - 1)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=-1, keepdims=True), axis=-1)
    best = np.zeros_like(largest)
    least = np.full_like(largest, np.inf)
    for shrink in SHRINK if bits == 4 else SHRINK[:1]:
        scale = (largest * (-shrink / half)).astype(np.float16).astype(np.float32)
        error = ((decode(encode(blocks, scale, bits), scale, bits) - blocks) ** 2).sum(axis=-1, keepdims=True)
        better = error < least
        best, least = np.where(better, scale, best), np.where(better, error, least)
    return best.astype(np.float32)


def encode(blocks: Floats, scales: Floats, bits: int) -> Codes:
    """Return the nearest codes: unsigned integers, half the range added, which is the operators' default zero point."""
    half = 1 << (bits - 1)
    steps = np.where(scales == 0, 1, scales)
    codes: Codes = np.clip(np.rint(blocks / steps) + half, 0, 2 * half - 1).astype(np.uint8)
    return codes


def decode(codes: Codes, scales: Floats, bits: int) -> Floats:
    """Return the weights that codes stand for."""
    return (codes.astype(np.float32) - (1 << (bits - 1))) * scales


def pack(codes: Codes, bits: int) -> Codes:
    """Return codes as the operators store them: two 4-bit ones a byte, the first in the low half."""
    if bits == 8:
        return codes
    pairs: Codes = np.bitwise_or(codes[..., ::2], np.left_shift(codes[..., 1::2], 4))
    return pairs


def split_rows(weights: Floats, block: int) -> Floats:
    """Return rows [n, width] as blocks [n, blocks, block]; zeros fill the last one, which operators leave out again."""
    padding = -weights.shape[1] % block
    if padding:
        weights = np.pad(weights, ((0, 0), (0, padding)))
    return weights.reshape(len(weights), -1, block)


def round_embedding(weights: Floats, bits: int, block: int) -> tuple[Codes, NDArray[np.float16]]:
    """Round an embedding [rows, width] to nearest.

    Returns:
        Packed codes [rows, …], of one more weight where 4-bit codes of an odd width fill no byte, and scales [rows,
        blocks].
    """
    width = weights.shape[1]
    stored = width + width % 2 if bits == 4 else width
    codes, scales = [], []
    for start in range(0, len(weights), ROWS):
        blocks = split_rows(weights[start : start + ROWS], block)
        scale = find_scales(blocks, bits)
        rows = encode(blocks, scale, bits).reshape(len(blocks), -1)
        codes.append(pack(rows[:, :stored], bits))
        scales.append(scale[..., 0].astype(np.float16))
    return np.concatenate(codes), np.concatenate(scales)


def round_matrix(weights: Floats, hessian: NDArray[np.float64], block: int) -> tuple[Codes, Floats]:
    """Round a matrix [in, out] to 4 bits by GPTQ. Inputs that never occur round to nearest.

    Args:
        weights: the matrix as ONNX stores it.
        hessian: [in, in] sum of outer products of the calibration inputs.
        block: weights of one output that share a scale; if it does not divide `in`, zeros fill the last block.

    Returns:
        codes [out, blocks, block] and scales [out, blocks].
    """
    import torch
    from torch import Tensor

    padded = split_rows(np.ascontiguousarray(weights.T), block)
    outputs, count, _ = padded.shape
    width = count * block
    curvature = torch.from_numpy(hessian.copy())
    curvature.diagonal()[curvature.diagonal() == 0] = 1
    factor = torch.eye(width)
    factor[: len(hessian), : len(hessian)] = gptq.factor_inverse(gptq.damp(curvature)).float()
    codes = np.empty((outputs, width), dtype=np.uint8)
    scales = np.empty((outputs, count), dtype=np.float32)

    def round_column(number: int, columns: Tensor) -> Tensor:
        if number % block == 0:
            scales[:, number // block] = find_scales(np.ascontiguousarray(columns[:block].T.numpy()), 4)[:, 0]
        scale = scales[:, number // block]
        codes[:, number] = encode(columns[0].numpy(), scale, 4)
        return torch.from_numpy(decode(codes[:, number], scale, 4))

    gptq.round_columns(
        torch.from_numpy(padded.reshape(outputs, width)),
        factor,
        round_column,
        group=GROUP,
        fused=False,
    )
    return codes.reshape(outputs, -1, block), scales
