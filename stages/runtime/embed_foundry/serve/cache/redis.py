"""The cache in Redis-compatible storage (Redis, Valkey, KeyDB, Dragonfly), shared by replicas."""

import time
from collections.abc import Sequence

import redis

from ...encoders.vectors import Vectors
from ...errors import InputError
from ..observer import Event, Observer
from . import stored
from .vector_cache import VectorKey

# A request waits this long for the storage, in seconds; then it is left out for RETRY_S.
TIMEOUT_S, RETRY_S = 0.05, 5.0
# In front of every key; another number where the layout of values changes.
PREFIX = b"embed-foundry:1:"


class RedisCache:
    """Vectors in Redis-compatible storage. Its own settings bound it: `maxmemory` and `maxmemory-policy allkeys-lfu`.

    Storage that fails or is slow is left out for some seconds, so that it costs no request more than its own time-out.

    Args:
        url: redis://, rediss:// or unix://, as redis-py takes it.
        observer: is told when the storage fails and when it answers again.

    Raises:
        InputError: the URL has another form.
    """

    blocks = True

    def __init__(self, url: str, observer: Observer) -> None:
        self._observer = observer
        self._out_until = 0.0
        try:
            self._client = redis.Redis.from_url(
                url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry_on_timeout=False
            )
        except ValueError as error:
            raise InputError(f"--cache-url: {error}. Expected redis://HOST:PORT/DB.") from None

    def get(self, keys: Sequence[VectorKey]) -> list[Vectors | None]:
        """See `VectorCache.get`."""
        values: list[bytes | None] = [None] * len(keys)
        if time.monotonic() >= self._out_until:
            try:
                values = list(self._client.mget([PREFIX + key.digest for key in keys]))
            except redis.RedisError as error:
                self._leave_out(error)
        return [stored.unpack(key, value) for key, value in zip(keys, values, strict=True)]

    def put(self, keys: Sequence[VectorKey], vectors: Vectors) -> None:
        """See `VectorCache.put`."""
        if time.monotonic() < self._out_until:
            return
        values = {PREFIX + key.digest: stored.pack(key, vector) for key, vector in zip(keys, vectors, strict=True)}
        try:
            self._client.mset(values)
        except redis.RedisError as error:
            self._leave_out(error)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _leave_out(self, error: Exception) -> None:
        self._out_until = time.monotonic() + RETRY_S
        self._observer.on_event(
            Event("cache_failed", f"the shared cache did not answer ({error}); it is left out for {RETRY_S:g} s")
        )
