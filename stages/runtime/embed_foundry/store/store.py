"""The interface of a release store, and the keys in it.

objects/sha256/HEX              a file's bytes, named by their digest: never changed, shared between releases
releases/DIGEST/manifest.json   a release's manifest, written once all its objects were uploaded and read back
releases/DIGEST/signature/FILE  the release's signature; written before the manifest, and again when signed again
releases/DIGEST/certificates/FILE  what the release does on a host; added at any time, never changed
channels/NAME.json              the release that a channel points at, and all its moves (channel.py)
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..errors import InputError

RELEASES, CHANNELS, OBJECTS = "releases/", "channels/", "objects/sha256/"
DIGEST = re.compile(r"[0-9a-f]{64}")
CHANNEL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
# Called with the number of bytes transferred since the last call.
ProgressCallback = Callable[[int], object]


@dataclass(frozen=True)
class VersionedBytes:
    """A small object as it was read.

    Attributes:
        data: its bytes.
        version: what `compare_and_swap` must name to replace it (S3: the ETag).
    """

    data: bytes
    version: str


class Store(Protocol):
    """Immutable objects, and small objects that are replaced by compare and swap.

    Every method raises RemoteError (refused for good), RetryableError (unavailable after bounded retries) or
    IntegrityError (the bytes that arrived are not the bytes that were sent).
    """

    @property
    def address(self) -> str:
        """Return the store's address, for messages."""

    def require_conditional_writes(self) -> None:
        """Raise RemoteError if the store ignores the conditions that `create` and `compare_and_swap` rely on."""

    def get_size(self, key: str) -> int | None:
        """Return an object's size in bytes; None if it does not exist."""

    def create(self, key: str, source: Path, on_progress: ProgressCallback) -> None:
        """Write a file's bytes unless the key exists; an object never changes, and never appears in part."""

    def stream(self, key: str) -> Iterator[bytes]:
        """Yield an object's bytes; raises IntegrityError if it does not exist."""

    def read(self, key: str) -> VersionedBytes | None:
        """Return a small object; None if it does not exist."""

    def compare_and_swap(self, key: str, data: bytes, version: str | None) -> bool:
        """Replace a small object if it still has `version` (None: if it does not exist); False if it changed."""

    def list_keys(self, prefix: str) -> list[str]:
        """Return the keys that begin with `prefix`, sorted."""

    def remove_stale_uploads(self) -> int:
        """Remove what abandoned uploads left behind; return how many there were."""


def object_key(sha256: str) -> str:
    """Return the key of a file's bytes."""
    return OBJECTS + sha256


def manifest_key(digest: str) -> str:
    """Return the key of a release's manifest."""
    return f"{RELEASES}{digest}/manifest.json"


def signature_prefix(digest: str) -> str:
    """Return the prefix of the keys of a release's signature files."""
    return f"{RELEASES}{digest}/signature/"


def certificate_prefix(digest: str) -> str:
    """Return the prefix of the keys of a release's certificates."""
    return f"{RELEASES}{digest}/certificates/"


def is_channel_name(name: str) -> bool:
    """Return whether a channel may have this name."""
    return CHANNEL_NAME.fullmatch(name) is not None and not DIGEST.fullmatch(name)


def channel_key(name: str) -> str:
    """Return the key of a channel's pointer.

    Raises:
        InputError: the name is not a channel name.
    """
    if not is_channel_name(name):
        raise InputError(
            f"channel {name!r}: expected up to 63 characters of a-z 0-9 . _ - that are not a digest, such as stable."
        )
    return f"{CHANNELS}{name}.json"
