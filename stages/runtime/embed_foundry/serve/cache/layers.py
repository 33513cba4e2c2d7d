"""The caches that the settings ask for: memory in front of a folder or shared storage."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from ...encoders.vectors import Vectors
from ...errors import InputError
from ..observer import Observer
from ..settings import Settings
from .memory import MemoryCache
from .vector_cache import VectorCache, VectorKey

REDIS = {"redis", "rediss", "unix"}


class Layers:
    """Caches behind each other: what a later one has is kept in those before it.

    Args:
        caches: the fastest first.
    """

    def __init__(self, caches: Sequence[VectorCache]) -> None:
        self._caches = caches
        self.blocks = any(cache.blocks for cache in caches)

    def get(self, keys: Sequence[VectorKey]) -> list[Vectors | None]:
        """See `VectorCache.get`."""
        vectors: list[Vectors | None] = [None] * len(keys)
        for depth, cache in enumerate(self._caches):
            missing = [position for position, vector in enumerate(vectors) if vector is None]
            for position, vector in zip(missing, cache.get([keys[position] for position in missing]), strict=True):
                if vector is not None:
                    vectors[position] = vector
                    for before in self._caches[:depth]:
                        before.put([keys[position]], vector[None])
            if all(vector is not None for vector in vectors):
                break
        return vectors

    def put(self, keys: Sequence[VectorKey], vectors: Vectors) -> None:
        """See `VectorCache.put`."""
        for cache in self._caches:
            cache.put(keys, vectors)

    def close(self) -> None:
        """Close every cache."""
        for cache in self._caches:
            cache.close()


def open_cache(settings: Settings, observer: Observer) -> VectorCache | None:
    """Return the cache that the settings ask for; None if they switch it off.

    Raises:
        InputError: `cache_url` is no folder and no URL of Redis, or its library is missing.
    """
    if not settings.cache_bytes:
        return None
    caches: list[VectorCache] = [MemoryCache(settings.cache_bytes)]
    if settings.cache_url:
        caches.append(_open_shared(settings, observer))
    return Layers(caches) if len(caches) > 1 else caches[0]


def _open_shared(settings: Settings, observer: Observer) -> VectorCache:
    scheme = urlsplit(settings.cache_url).scheme
    if scheme in REDIS:
        try:
            from .redis import RedisCache
        except ImportError as error:
            raise InputError(
                f"--cache-url {scheme}://… needs a library ({error}). Next: pip install 'embed-foundry[redis]'"
            ) from None
        return RedisCache(settings.cache_url, observer)
    if scheme not in ("", "file"):
        raise InputError(f"--cache-url {scheme}://…: expected redis://HOST:PORT/DB, or a folder.")
    from .disk import DiskCache

    return DiskCache(Path(settings.cache_url.removeprefix("file://")), settings.disk_cache_bytes, observer)
