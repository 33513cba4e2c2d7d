"""What a cache of vectors must do; the engine asks it before it computes, and tells it afterwards."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ...encoders.vectors import Vectors


@dataclass(frozen=True)
class VectorKey:
    """What a vector depends on; nothing else may change a byte of it.

    Attributes:
        numerics: digest of the variant's files and of the vectors that it gives here for the release's probes. The
            vectors differ between libraries and kinds of CPU, so replicas share entries only where they compute the
            same bytes; the files differ between variants that agree on the probes.
        prompt: the prompt's name; "" for none.
        text: SHA-256 of the text's UTF-8 bytes.
    """

    numerics: str
    prompt: str
    text: bytes

    @property
    def digest(self) -> bytes:
        """SHA-256 of all of it."""
        return hashlib.sha256(b"\0".join((self.numerics.encode(), self.prompt.encode(), self.text))).digest()


class VectorCache(Protocol):
    """Full vectors by content, as the model gave them: truncation and norm come after, so one entry serves all lengths.

    A cache that fails answers nothing; it never raises into a request.
    """

    @property
    def blocks(self) -> bool:
        """Whether it waits for a disk or another host, so that the event loop must not call it."""

    def get(self, keys: Sequence[VectorKey]) -> list[Vectors | None]:
        """Return the full vector of each key, or None where there is none."""

    def put(self, keys: Sequence[VectorKey], vectors: Vectors) -> None:
        """Keep the full vectors [n, dimensions] of n keys."""

    def close(self) -> None:
        """Let go of connections and files."""
