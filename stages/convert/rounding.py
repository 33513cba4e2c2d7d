"""Weights to integers with one scale a block: to nearest, or so that the layer's output changes least (GPTQ)."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]
# Fractions of the largest weight that a block's scale is tried at: clipping one outlier rounds all others finer.
SHRINK = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75)
# Rows of an embedding that are rounded at once: bounds memory.
ROWS = 8192
# Share of the Hessian's mean diagonal that is added to it, and columns between updates: GPTQ's own defaults.
DAMP, COLUMNS = 0.01, 128


def scales_of(blocks: Floats, bits: int) -> Floats:
    """Return the scale of each block with the least squared error: [..., block] -> [..., 1], rounded to fp16.

    The largest weight maps to the integer that has no opposite (-8 of 4 bits), so a scale may be negative.
    """
    half = 1 << (bits - 1)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=-1, keepdims=True), axis=-1)
    best = np.zeros_like(largest)
    least = np.full_like(largest, np.inf)
    for shrink in SHRINK if bits == 4 else SHRINK[:1]:
        scale = (largest * (-shrink / half)).astype(np.float16).astype(np.float32)
        error = ((decoded(codes_of(blocks, scale, bits), scale, bits) - blocks) ** 2).sum(axis=-1, keepdims=True)
        better = error < least
        best, least = np.where(better, scale, best), np.where(better, error, least)
    return best.astype(np.float32)


def codes_of(blocks: Floats, scales: Floats, bits: int) -> Codes:
    """Return unsigned integers, half the range added: the operators' default zero point."""
    half = 1 << (bits - 1)
    steps = np.where(scales == 0, 1, scales)
    codes: Codes = np.clip(np.rint(blocks / steps) + half, 0, 2 * half - 1).astype(np.uint8)
    return codes


def decoded(codes: Codes, scales: Floats, bits: int) -> Floats:
    """Return the weights that codes stand for."""
    return (codes.astype(np.float32) - (1 << (bits - 1))) * scales


def packed(codes: Codes, bits: int) -> Codes:
    """Return codes as the operators store them: two 4-bit ones a byte, the first in the low half."""
    if bits == 8:
        return codes
    pairs: Codes = np.bitwise_or(codes[..., ::2], np.left_shift(codes[..., 1::2], 4))
    return pairs


def table(weights: Floats, bits: int, block: int) -> tuple[Codes, NDArray[np.float16]]:
    """Round an embedding [rows, width] to nearest; return packed codes [rows, …] and scales [rows, width / block]."""
    codes, scales = [], []
    for start in range(0, len(weights), ROWS):
        blocks = weights[start : start + ROWS].reshape(-1, weights.shape[1] // block, block)
        scale = scales_of(blocks, bits)
        codes.append(packed(codes_of(blocks, scale, bits).reshape(len(blocks), -1), bits))
        scales.append(scale[..., 0].astype(np.float16))
    return np.concatenate(codes), np.concatenate(scales)


def gptq(weights: Floats, hessian: NDArray[np.float64], block: int) -> tuple[Codes, Floats]:
    """Round a matrix [in, out] to 4 bits so that its outputs on the calibration inputs change least.

    Frantar et al. 2022 (arXiv:2210.17323), algorithm 1: columns are rounded in turn and the error of each is spread
    over those not yet rounded, by the inverse Hessian. Inputs that never occur round to nearest.

    Args:
        weights: the matrix as onnx stores it.
        hessian: [in, in] sum of outer products of the calibration inputs.
        block: weights of one output that share a scale; divides `in`.

    Returns:
        codes [out, in / block, block] and scales [out, in / block].
    """
    import torch

    width = len(weights)
    rest = torch.from_numpy(np.ascontiguousarray(weights.T))
    curvature = torch.from_numpy(hessian)
    diagonal = curvature.diagonal()
    diagonal[diagonal == 0] = 1
    diagonal += DAMP * diagonal.mean()
    inverse = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(curvature)), upper=True).float()
    codes = np.empty((rest.shape[0], width), dtype=np.uint8)
    scales = np.empty((rest.shape[0], width // block), dtype=np.float32)
    for start in range(0, width, COLUMNS):
        end = min(start + COLUMNS, width)
        part, errors = rest[:, start:end].clone(), torch.zeros(rest.shape[0], end - start)
        for column in range(start, end):
            at = column - start
            if column % block == 0:
                scale = scales_of(part[:, at : at + block].numpy(), 4)
                scales[:, column // block] = scale[:, 0]
            code = codes_of(part[:, at : at + 1].numpy(), scale, 4)
            codes[:, column] = code[:, 0]
            error = (part[:, at] - torch.from_numpy(decoded(code, scale, 4))[:, 0]) / inverse[column, column]
            part[:, at:] -= torch.outer(error, inverse[column, column:end])
            errors[:, at] = error
        rest[:, end:] -= errors @ inverse[start:end, end:]
    return codes.reshape(len(codes), -1, block), scales
