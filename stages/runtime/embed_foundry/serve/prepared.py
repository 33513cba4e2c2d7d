"""Texts of a request on their way to the lanes: tokenized once, off the event loop where that takes long."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from ..encoders.encoder import Encoder
from ..encoders.rows import Tokens
from ..errors import InputError
from .refusals import INVALID_INPUT, RefusalError

# Texts of so many characters together are tokenized on the event loop: a thread would take longer to start on them.
INLINE_CHARACTERS = 2000


@dataclass(frozen=True)
class Prepared:
    """The texts of a request.

    Attributes:
        rows: their tokens.
        unknown: positions of the texts of which the variant knows no token.
        digests: SHA-256 of each text's UTF-8 bytes.
    """

    rows: list[Tokens]
    unknown: tuple[int, ...]
    digests: list[bytes]


async def prepare(encoder: Encoder, texts: Sequence[str], prompt: str | None) -> Prepared:
    """Return texts as lanes take them.

    Raises:
        RefusalError: invalid_input.
    """
    try:
        if sum(map(len, texts)) <= INLINE_CHARACTERS:
            return _prepare(encoder, texts, prompt)
        return await asyncio.to_thread(_prepare, encoder, texts, prompt)
    except InputError as error:
        raise RefusalError(INVALID_INPUT, str(error), "input") from None


def _prepare(encoder: Encoder, texts: Sequence[str], prompt: str | None) -> Prepared:
    rows = encoder.tokenize(texts, prompt=prompt)
    unknown = tuple(position for position, row in enumerate(rows) if encoder.is_unknown(row))
    return Prepared(rows, unknown, [hashlib.sha256(text.encode()).digest() for text in texts])
