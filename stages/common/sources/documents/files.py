"""Which files are documents, and how each is read."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from embed_foundry.errors import InputError

from stages.common.sources import text_encoding
from stages.common.sources.documents import docx, html, markdown, pdf, plain
from stages.common.sources.documents.blocks import Block


def list_documents(root: Path) -> list[Path]:
    """Return the documents in a folder, at any depth, in the order of their paths; hidden ones are left out.

    Raises:
        InputError: a name is not UTF-8.
    """
    documents = [path for path in _list_files(root) if path.suffix.lower() in READERS]
    for path in documents:
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise InputError(f"{root}: the name of {path.name!r} is not UTF-8. Rename it.") from None
    return documents


def count_unread(root: Path) -> dict[str, int]:
    """Return suffix -> number of a folder's files that are no documents."""
    suffixes = Counter(path.suffix.lower() for path in _list_files(root))
    return {suffix: count for suffix, count in sorted(suffixes.items()) if suffix not in READERS}


def read_document(path: Path) -> list[Block]:
    """Return a document's blocks.

    Raises:
        InputError: it cannot be read, is not what its suffix says, or is in an encoding that it does not show.
    """
    content = text_encoding.read_bytes(path)
    try:
        blocks = READERS[path.suffix.lower()](path, content)
    except InputError:
        raise
    except Exception as error:  # a damaged file can fail anywhere in its library
        reason = f"{type(error).__name__}: {error}"[:100]
        raise InputError(f"{path}: is no {path.suffix} file that can be read ({reason}). Export it again.") from None
    for block in blocks:
        try:
            block.text.encode()
        except UnicodeEncodeError:
            place = f", page {block.page}" if block.page else ""
            raise InputError(f"{path}{place}: has half a character, as in {block.text!r:.60}. Correct it.") from None
    return blocks


def _list_files(root: Path) -> list[Path]:
    return sorted(
        path
        for path in root.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts)
    )


def _read_markdown(path: Path, content: bytes) -> list[Block]:
    return markdown.read_blocks(_unify_lines(text_encoding.decode(path, content)))


def _read_plain(path: Path, content: bytes) -> list[Block]:
    return plain.read_blocks(_unify_lines(text_encoding.decode(path, content)))


def _read_html(path: Path, content: bytes) -> list[Block]:
    declared = html.find_declared_encoding(content)
    return html.read_blocks(_unify_lines(text_encoding.decode(path, content, declared)))


def _read_docx(_: Path, content: bytes) -> list[Block]:
    return docx.read_blocks(content)


def _unify_lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


# Suffix -> what turns a file's bytes into blocks; the path is for messages.
READERS: dict[str, Callable[[Path, bytes], list[Block]]] = {
    ".md": _read_markdown,
    ".markdown": _read_markdown,
    ".txt": _read_plain,
    ".text": _read_plain,
    ".html": _read_html,
    ".htm": _read_html,
    ".xhtml": _read_html,
    ".pdf": pdf.read_blocks,
    ".docx": _read_docx,
}
