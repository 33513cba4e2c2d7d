"""How a vector is stored outside this process: its numbers behind a checksum that covers its key.

A value that was cut, changed or written under another key is none: it is computed again.
"""

import hashlib

import numpy as np

from ...encoders.vectors import Vectors
from .vector_cache import VectorKey

CHECK = 16


def pack(key: VectorKey, vector: Vectors) -> bytes:
    """Return a vector [dimensions] as bytes: 16 of SHA-256 over key and numbers, then little-endian float32."""
    numbers = vector.astype("<f4").tobytes()
    return _check(key, numbers) + numbers


def unpack(key: VectorKey, value: bytes | None) -> Vectors | None:
    """Return the vector of stored bytes; None if they are not what `pack` made of this key."""
    if value is None or len(value) <= CHECK or (len(value) - CHECK) % 4 or value[:CHECK] != _check(key, value[CHECK:]):
        return None
    return np.frombuffer(value[CHECK:], dtype="<f4")


def _check(key: VectorKey, numbers: bytes) -> bytes:
    return hashlib.sha256(key.digest + numbers).digest()[:CHECK]
