"""Word documents as blocks, by mammoth: styles become HTML's headings, lists and tables."""

import io

from stages.common.sources.documents import html
from stages.common.sources.documents.blocks import Block

# Word's own title is above its headings.
STYLES = "p[style-name='Title'] => title:fresh"


def read_blocks(content: bytes) -> list[Block]:
    """Return the blocks of a document.

    Raises:
        Exception: whatever mammoth and zipfile raise on a file that is none.
    """
    import mammoth

    converted = mammoth.convert_to_html(
        io.BytesIO(content), style_map=STYLES, convert_image=mammoth.images.img_element(lambda image: {})
    )
    return html.read_blocks(converted.value)
