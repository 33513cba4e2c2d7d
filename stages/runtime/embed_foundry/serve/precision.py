"""Vectors in fewer bytes: pure functions of unit vectors, each with its rule. docs/service.md has what each one costs.

The names are those of sentence-transformers' `quantize_embeddings` and of Cohere's `embedding_types`. No function needs
other vectors than its own: sentence-transformers takes the scale of int8 from the range of a calibration set, so that
the same text gives other bytes after other texts, and two replicas cannot be compared. Here the scale is fixed.
"""

import base64
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..encoders.vectors import Vectors

# The largest value of a unit vector is 1, and int8 is used symmetrically: -128 never occurs.
INT8_SCALE: Final = 127


def to_float16(vectors: Vectors) -> NDArray[np.float16]:
    """Return [n, d] float32 as IEEE half precision, rounded to the nearest; a unit vector cannot overflow it."""
    return vectors.astype(np.float16)


def to_int8(vectors: Vectors) -> NDArray[np.int8]:
    """Return [n, d] unit vectors as round(127 x), clipped to -127..127; halves are rounded to even.

    Divide by 127 to get the vector back. Its length is no longer exactly 1: compare by cosine.
    """
    return np.clip(np.rint(vectors * INT8_SCALE), -INT8_SCALE, INT8_SCALE).astype(np.int8)


def to_uint8(vectors: Vectors) -> NDArray[np.uint8]:
    """Return [n, d] unit vectors as `to_int8` + 128: 1 to 255, and 128 stands for zero."""
    return (to_int8(vectors).astype(np.int16) + 128).astype(np.uint8)


def to_ubinary(vectors: Vectors) -> NDArray[np.uint8]:
    """Return one bit a value, eight to a byte: [n, d] -> [n, ceil(d / 8)].

    A bit is 1 where x > 0, as in sentence-transformers and faiss; vLLM takes x >= 0. The first value is the highest bit
    of the first byte (MSB first, `numpy.packbits`). Where d is no multiple of 8, zero bits fill the last byte.
    """
    return np.packbits(vectors > 0, axis=1)


def to_binary(vectors: Vectors) -> NDArray[np.int8]:
    """Return `to_ubinary` - 128, as sentence-transformers and Cohere have it: -128 to 127, [n, ceil(d / 8)]."""
    return (to_ubinary(vectors).astype(np.int16) - 128).astype(np.int8)


def to_base64(vectors: NDArray[np.float32] | NDArray[np.float16]) -> list[str]:
    """Return each row's little-endian bytes in base64: OpenAI's clients read float32 so."""
    rows = np.ascontiguousarray(vectors, dtype=vectors.dtype.newbyteorder("<"))
    return [base64.b64encode(row).decode("ascii") for row in rows]


# Name -> what a vector's numbers become; rows of JSON numbers, or strings for base64 and float16.
ENCODINGS: Final[Mapping[str, Callable[[Vectors], NDArray[np.generic] | list[str]]]] = {
    "float": lambda vectors: vectors,
    "base64": to_base64,
    "float16": lambda vectors: to_base64(to_float16(vectors)),
    "int8": to_int8,
    "uint8": to_uint8,
    "binary": to_binary,
    "ubinary": to_ubinary,
}
