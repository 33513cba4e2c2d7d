"""What every reader of documents returns."""

from dataclasses import dataclass
from enum import StrEnum


class BlockKind(StrEnum):
    """What a block of a document is."""

    HEADING = "heading"
    PROSE = "prose"
    CODE = "code"
    TABLE = "table"


@dataclass(frozen=True)
class Block:
    """A block of a document.

    Attributes:
        kind: what it is.
        text: its text, never empty; on one line, except that code keeps its lines and a table has a line for each row.
        level: of a heading, 1 (outermost) to 6; 0 for other blocks.
        line: the file's line on which it begins, from 1; None where a format has no lines.
        page: the page on which it begins, from 1; None where a format has no pages.
    """

    kind: BlockKind
    text: str
    level: int = 0
    line: int | None = None
    page: int | None = None


def put_title_above(title: str, blocks: list[Block]) -> list[Block]:
    """Return the blocks below a heading with the document's title, unless they have a heading of the first level."""
    if not title or any(block.level == 1 for block in blocks):
        return blocks
    return [Block(BlockKind.HEADING, title, level=1), *blocks]
