"""Plain text as paragraphs."""

from stages.common.sources.documents.blocks import Block, BlockKind
from stages.common.sources.sentences import join_lines

# Begins a paragraph in Chinese and Japanese, where no line is empty.
INDENT = "\u3000"


def read_blocks(content: str) -> list[Block]:
    """Return the paragraphs of a text: what stands between empty lines, or begins with an ideographic space."""
    blocks: list[Block] = []
    paragraph: list[str] = []
    first = 1
    for number, line in enumerate([*content.split("\n"), ""], start=1):
        if paragraph and (not line.strip() or line.startswith(INDENT)):
            blocks.append(Block(BlockKind.PROSE, join_lines("\n".join(paragraph)), line=first))
            paragraph = []
        if line.strip():
            first = first if paragraph else number
            paragraph.append(line)
    return blocks
