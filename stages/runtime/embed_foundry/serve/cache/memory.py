"""The cache in this process's memory."""

from collections.abc import Sequence

import numpy as np
from theine import Cache

from ...encoders.vectors import Vectors
from .vector_cache import VectorKey

# Bytes of an entry beside its numbers: measured over 200,000 entries (tests/serve/test_cache.py holds the sum).
OVERHEAD = 700


class MemoryCache:
    """Vectors in memory, bounded in bytes; W-TinyLFU decides what stays, by frequency and recency (theine).

    All vectors of a release have one length. Where another release has longer ones, the cache begins again.

    Args:
        most_bytes: of all entries together.
    """

    blocks = False

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._size = 0
        self._cache: Cache[bytes, bytes] | None = None

    def get(self, keys: Sequence[VectorKey]) -> list[Vectors | None]:
        """See `VectorCache.get`."""
        if self._cache is None:
            return [None] * len(keys)
        values = [self._cache.get(key.digest)[0] for key in keys]
        return [None if value is None else np.frombuffer(value, dtype="<f4") for value in values]

    def put(self, keys: Sequence[VectorKey], vectors: Vectors) -> None:
        """See `VectorCache.put`."""
        cache = self._make_room(vectors.shape[1] * 4)
        for key, vector in zip(keys, vectors, strict=True):
            cache.set(key.digest, vector.astype("<f4").tobytes())

    def close(self) -> None:
        """Forget everything."""
        if self._cache is not None:
            self._cache.close()
        self._cache = None

    def _make_room(self, size: int) -> "Cache[bytes, bytes]":
        if self._cache is None or size > self._size:
            self.close()
            self._size = size
            self._cache = Cache(max(1, self._most_bytes // (size + OVERHEAD)))
        return self._cache
