"""CSV and JSON lines files, the same bytes on every host: UTF-8, Unix line ends."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

# One row by column: what JSON, Parquet or CSV can hold.
Row = dict[str, Any]
# JSON allows these characters in a text, but `str.splitlines` would break the line there.
_LINE_SEPARATORS = {ord(character): f"\\u{ord(character):04x}" for character in "\x85\u2028\u2029"}


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file with a header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def write_json_lines(path: Path, rows: Iterable[Mapping[str, object]]) -> int:
    """Write one JSON object per line and return how many were written.

    Raises:
        ValueError: a value is NaN, infinite, or not a JSON value.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False).translate(_LINE_SEPARATORS) + "\n")
            count += 1
    return count


def read_csv(path: Path) -> Iterator[Row]:
    """Yield the rows of a CSV file with a header; all values are strings."""
    csv.field_size_limit(sys.maxsize)  # documents are longer than the default
    with path.open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def read_json_lines(path: Path) -> Iterator[Row]:
    """Yield the object on each line of a file."""
    with path.open(encoding="utf-8", newline="\n") as file:
        yield from map(json.loads, file)
