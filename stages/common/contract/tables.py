"""Writing task files: CSV and JSON lines with Unix line ends, whatever the host."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

# JSON lets these stand in a text, but `str.splitlines` would cut the line there.
_SEPARATORS = {ord(sign): f"\\u{ord(sign):04x}" for sign in "\x85\u2028\u2029"}


def csv_file(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file with a header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def json_lines(path: Path, rows: Iterable[Mapping[str, object]]) -> int:
    """Write one JSON object a line and return how many.

    Raises:
        ValueError: a value is NaN, infinite, or nothing that JSON has.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False).translate(_SEPARATORS) + "\n")
            count += 1
    return count
