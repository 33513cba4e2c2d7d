"""PDF as blocks, by pypdf: lines of text, and headings where the outline names them."""

import io
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from embed_foundry.errors import InputError

from stages.common.sources.documents.blocks import Block, BlockKind
from stages.common.sources.sentences import join_lines

if TYPE_CHECKING:
    from pypdf import PdfReader

# Deeper entries of an outline count as this level, as in HTML.
DEEPEST = 6


def read_blocks(path: Path, content: bytes) -> list[Block]:
    """Return the blocks of a document: what stands on a page between empty lines and headings.

    Raises:
        InputError: it is encrypted, or has no text.
        Exception: whatever pypdf raises on a file that is none.
    """
    from pypdf import PdfReader

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it says what is wrong with a damaged file line by line
    reader = PdfReader(io.BytesIO(content))
    if reader.is_encrypted and not reader.decrypt(""):
        raise InputError(f"{path}: is encrypted. Save it without a password.")
    headings: dict[int, dict[str, int]] = defaultdict(dict)
    for page, title, level in _walk_outline(reader, reader.outline, 1):
        headings[page].setdefault(title, level)
    blocks = [
        block
        for index, page in enumerate(reader.pages)
        for block in _read_page(page.extract_text(), index + 1, headings[index])
    ]
    if not blocks:
        raise InputError(f"{path}: has no text, only images. Run text recognition (OCR) on it.")
    return blocks


def _walk_outline(reader: "PdfReader", outline: Iterable[object], level: int) -> Iterator[tuple[int, str, int]]:
    """Yield the page's index, title and level of each entry."""
    from pypdf.generic import Destination

    for entry in outline:
        if isinstance(entry, list):
            yield from _walk_outline(reader, entry, min(level + 1, DEEPEST))
        elif isinstance(entry, Destination) and (page := reader.get_destination_page_number(entry)) is not None:
            yield page, join_lines(str(entry.title or "")), level


def _read_page(text: str, page: int, headings: dict[str, int]) -> Iterator[Block]:
    """Yield a page's blocks; a line that the outline names is a heading."""
    paragraph: list[str] = []
    for line in [*text.split("\n"), ""]:
        title = join_lines(line)
        if (not title or title in headings) and paragraph:
            yield Block(BlockKind.PROSE, join_lines("\n".join(paragraph)), page=page)
            paragraph = []
        if title and title in headings:
            yield Block(BlockKind.HEADING, title, headings[title], page=page)
        elif title:
            paragraph.append(title)
