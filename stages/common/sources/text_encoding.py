"""A user's bytes as text: decoded by what the file itself says, or refused by name. Nothing is guessed."""

import codecs
from pathlib import Path

from embed_foundry.errors import InputError

# Longer marks first: UTF-32's little-endian one begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Begins Japanese or Korean in a 7-bit encoding (ISO-2022), which would pass for UTF-8.
_SHIFT = b"\x1b$"
# The least share of zero bytes, on one side alone, of letters and spaces in UTF-16; a stray zero makes no UTF-16.
_ZEROS = 0.1
# Bytes that the guess at a refused file's encoding is made from.
_SAMPLE = 1 << 16


def read_text(path: Path, declared: str | None = None) -> str:
    """Return a file's text, without a byte order mark.

    Args:
        path: the file.
        declared: the encoding that the file names inside, as in HTML's `<meta charset>`.

    Raises:
        InputError: it cannot be read, or is in no encoding that it shows.
    """
    return decode(path, read_bytes(path), declared)


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}). Correct the path or its mode.") from None


def decode(path: Path, content: bytes, declared: str | None = None) -> str:
    """Return the text of a file's bytes: by a byte order mark, as UTF-8, as UTF-16, or as the file itself declares.

    Bytes that are valid UTF-8 are UTF-8 whatever the file declares: pages are often converted without their `<meta>`.

    Raises:
        InputError: they are in none of these; the message names the encoding that they look like.
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return _decode_strictly(path, content[len(mark) :], encoding, "its byte order mark says")
    if b"\0" in content:
        return _decode_unmarked_utf16(path, content)
    if _SHIFT not in content:
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError as error:
            reason = f"{error.reason} at byte {error.start}"
    else:
        reason = f"ISO-2022 escape at byte {content.index(_SHIFT)}"
    if declared:
        return _decode_strictly(path, content, declared, "it declares")
    raise InputError(f"{path}: is not UTF-8 ({reason}); {_describe_guess(content)}. Save it as UTF-8.")


def _decode_strictly(path: Path, content: bytes, encoding: str, source: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: {source} {encoding}, but it is not ({error.reason} at byte {error.start}). Save it as UTF-8."
        ) from None


def _decode_unmarked_utf16(path: Path, content: bytes) -> str:
    """Return the text of UTF-16 without a byte order mark: its spaces and Latin letters have a zero on one side.

    Han characters have zeros, too, on either side. Only a space shows that the side is right.
    """
    even, odd = content[0::2].count(0), content[1::2].count(0)
    if len(content) % 2 == 0 and min(even, odd) == 0 and max(even, odd) >= _ZEROS * len(content) / 2:
        text = content.decode("utf-16-be" if even else "utf-16-le", "replace")
        usable = all(character.isprintable() or character.isspace() for character in text)
        if usable and " " in text and "\ufffd" not in text:
            return text
    raise InputError(
        f"{path}: byte {content.index(0)} is zero, so it is UTF-16 without a byte order mark, or no text. "
        "Save it as UTF-8, or remove it."
    )


def _describe_guess(content: bytes) -> str:
    from charset_normalizer import from_bytes

    if _SHIFT in content:
        return "it looks like iso2022_jp or iso2022_kr"
    best = from_bytes(content[:_SAMPLE]).best()
    return f"it looks like {best.encoding}" if best else "it looks like no encoding of text"
