"""The cache in a folder: one SQLite file, which survives restarts and is shared by the processes of a host."""

import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from ...encoders.vectors import Vectors
from ...errors import InputError
from ..observer import Event, Observer
from . import stored
from .vector_cache import VectorKey

# Seconds that a request waits for another process that writes.
BUSY_S = 0.05
# Entries that are removed at once when the file is full: the least recently used.
REMOVED = 1000


class DiskCache:
    """Vectors in a folder, bounded in bytes; the least recently written or read leave first.

    Args:
        folder: made if it does not exist.
        most_bytes: of all values together.
        observer: is told when the file cannot be used.

    Raises:
        InputError: the folder cannot be written.
    """

    blocks = True

    def __init__(self, folder: Path, most_bytes: int, observer: Observer) -> None:
        self._most_bytes, self._observer = most_bytes, observer
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                folder / "vectors.sqlite", timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=OFF")  # a cache may lose its last entries
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, value BLOB, used REAL) WITHOUT ROWID"
            )
            self._connection.execute("CREATE INDEX IF NOT EXISTS by_use ON vectors (used)")
        except (OSError, sqlite3.Error) as error:
            raise InputError(f"{folder}: cannot hold the cache ({error}). Choose another --cache-url.") from None

    def get(self, keys: Sequence[VectorKey]) -> list[Vectors | None]:
        """See `VectorCache.get`."""
        try:
            with self._lock:
                values = [self._read(key.digest) for key in keys]
        except sqlite3.Error as error:
            self._report(error)
            return [None] * len(keys)
        return [stored.unpack(key, value) for key, value in zip(keys, values, strict=True)]

    def put(self, keys: Sequence[VectorKey], vectors: Vectors) -> None:
        """See `VectorCache.put`."""
        now = time.time()
        rows = [(key.digest, stored.pack(key, vector), now) for key, vector in zip(keys, vectors, strict=True)]
        try:
            with self._lock:
                self._connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)
                self._remove_old(len(rows[0][1]))
        except sqlite3.Error as error:
            self._report(error)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _read(self, key: bytes) -> bytes | None:
        row = self._connection.execute("SELECT value FROM vectors WHERE key = ?", (key,)).fetchone()
        if row:
            self._connection.execute("UPDATE vectors SET used = ? WHERE key = ?", (time.time(), key))
        return row[0] if row else None

    def _remove_old(self, size: int) -> None:
        count = self._connection.execute("SELECT COUNT(*) FROM vectors").fetchone()[0]
        if count * size > self._most_bytes:
            self._connection.execute(
                "DELETE FROM vectors WHERE key IN (SELECT key FROM vectors ORDER BY used LIMIT ?)",
                (max(REMOVED, count - self._most_bytes // size),),
            )

    def _report(self, error: Exception) -> None:
        self._observer.on_event(Event("cache_failed", f"the cache on disk did not answer ({error}); it is left out"))
