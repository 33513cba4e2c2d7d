"""What a store of releases can do, and the names in it.

objects/sha256/HEX              a file's bytes, named by them: never changed, shared between releases
releases/DIGEST/manifest.json   a release's manifest, written when all its objects are there and were read back
releases/DIGEST/signature/FILE  who made it; written before the manifest, and again when a release is signed again
channels/NAME.json              which release a channel names, and how it came to (channel.py)
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from embed_foundry import InputError

RELEASES, CHANNELS, OBJECTS = "releases/", "channels/", "objects/sha256/"
DIGEST = re.compile(r"[0-9a-f]{64}")
CHANNEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
# Called with the number of bytes that moved since the last call.
Moved = Callable[[int], object]


@dataclass(frozen=True)
class Document:
    """A small object as it was read: its bytes, and the version that a swap must name (S3: the ETag)."""

    data: bytes
    version: str


class Store(Protocol):
    """Immutable objects, and documents that are swapped only if nobody else did.

    Every method raises RemoteError (refused for good), RetryableError (unavailable after bounded retries) or
    IntegrityError (the bytes that arrived are not those that were sent).
    """

    @property
    def where(self) -> str:
        """Return the store's address, for messages."""

    def require_conditions(self) -> None:
        """Raise RemoteError if the store does not honour the conditions that `create` and `swap` stand on."""

    def size(self, key: str) -> int | None:
        """Return an object's size in bytes, None if it is not there."""

    def create(self, key: str, source: Path, moved: Moved) -> None:
        """Write a file's bytes unless the key exists; what is there is left as it is, and nothing is there by half."""

    def stream(self, key: str) -> Iterator[bytes]:
        """Yield an object's bytes; raises IntegrityError if it is not there."""

    def read(self, key: str) -> Document | None:
        """Return a small object, None if it is not there."""

    def swap(self, key: str, data: bytes, version: str | None) -> bool:
        """Replace a document if it still has `version` (None: if it does not exist); False if somebody was faster."""

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that begin with `prefix`, sorted."""

    def sweep(self) -> int:
        """Remove what broken-off uploads left and nobody goes on with; return how many."""


def object_key(sha256: str) -> str:
    """Return the key of a file's bytes."""
    return OBJECTS + sha256


def release_key(digest: str) -> str:
    """Return the key of a release's manifest."""
    return f"{RELEASES}{digest}/manifest.json"


def signature_keys(digest: str) -> str:
    """Return what the keys of a release's signature files begin with."""
    return f"{RELEASES}{digest}/signature/"


def channel_key(name: str) -> str:
    """Return the key of a channel's pointer.

    Raises:
        InputError: no name for a channel.
    """
    if not CHANNEL.fullmatch(name) or DIGEST.fullmatch(name):
        raise InputError(f"channel {name!r}: expected up to 63 of a-z 0-9 . _ - that are no digest, such as stable.")
    return f"{CHANNELS}{name}.json"
