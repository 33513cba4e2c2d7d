"""The lines of standard input, or of a file, as texts, by one rule.

The input is UTF-8, with or without a byte order mark, whatever the locale says. A line ends with a line feed, or with
carriage return and line feed; the last one needs no end. Nothing else ends a line: a carriage return alone, form feeds
and Unicode's own separators (U+0085, U+2028, U+2029) belong to the text. An empty line is an empty text. A zero byte is
refused: it is no part of a text, but the sign of UTF-16 or of no text at all.
"""

import codecs
from typing import TextIO

from .errors import InputError

# Byte order marks of other encodings -> their names; the longer ones first, since one begins like another.
OTHER_ENCODINGS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def read_lines(stream: TextIO | None, name: str = "standard input") -> list[str]:
    """Return the lines of a stream, as many as there are line ends, and one more for bytes after the last of them.

    Args:
        stream: standard input, which is None if the process has none; or a file opened as text.
        name: what messages call it.

    Raises:
        InputError: there is no stream; it is not UTF-8, or holds a zero byte. The message names the line, from 1.
    """
    if stream is None:
        raise InputError(f"{name} is closed. Give it the texts, one a line.")
    data = stream.buffer.read()
    for mark, encoding in OTHER_ENCODINGS.items():
        if data.startswith(mark):
            raise InputError(f"{name} is {encoding}; expected UTF-8. Next: iconv -f {encoding} -t UTF-8")
    lines = data.removeprefix(codecs.BOM_UTF8).split(b"\n")
    if not lines[-1]:
        lines.pop()
    return [_decode(line, f"line {number} of {name}") for number, line in enumerate(lines, start=1)]


def _decode(line: bytes, place: str) -> str:
    if b"\0" in line:
        raise InputError(
            f"{place} holds a zero byte: it is UTF-16 without a byte order mark, or no text; "
            "expected UTF-8. Next: iconv -f UTF-16LE -t UTF-8"
        )
    try:
        return line.removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{place} is not UTF-8 (byte {error.start + 1} is 0x{line[error.start]:02x}). "
            "Next: iconv -f ENCODING -t UTF-8, with the encoding that it is in, such as CP1252."
        ) from None
