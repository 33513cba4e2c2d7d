"""Reading a user's CSV, JSON lines or Parquet file into rows; every error names its place in the file."""

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from embed_foundry.errors import InputError, one_line

from stages.common.contract.tables import Row
from stages.common.sources.text_encoding import read_text

SURROGATE = re.compile("[\ud800-\udfff]")


def read(path: Path) -> list[Row]:
    """Return the rows of a file by its suffix.

    Raises:
        InputError: it is not in the format of its suffix, or has no row.
    """
    rows = FORMATS[path.suffix](path)
    if not rows:
        raise InputError(f"{path}: is empty; expected one sample per row. Export it again.")
    return rows


def require_text(path: Path, number: int, column: str, value: object) -> str:
    """Return a value that is text.

    Args:
        path: its file.
        number: of its row, from 1.
        column: its name.
        value: what the file holds there.

    Raises:
        InputError: it is not text that a model can embed.
    """
    if fault := find_text_fault(value):
        raise InputError(f"{path}, row {number}: {column} {fault}. Correct or remove it.")
    return str(value)


def find_text_fault(value: object) -> str | None:
    """Return why a value is not text that a model can embed, as a verb and what follows; None if it is."""
    if not isinstance(value, str):
        return f"is {value!r:.60}, expected text"
    if half := SURROGATE.search(value):
        return f"holds half of a character ({half[0]!a} at {half.start() + 1}, a surrogate without its pair)"
    if "\0" in value:
        return f"holds a NUL character at {value.index(chr(0)) + 1}"
    if not any(character.isprintable() and not character.isspace() for character in value):
        return f"is {value!a:.60}, expected text"
    return None


def list_names(names: Iterable[object]) -> str:
    """Return the first eight names of a user's columns or files, each on one line."""
    lines = list(map(one_line, names))
    return ", ".join(lines[:8]) + (" …" if len(lines) > 8 else "")


def read_pairs(pairs: list[tuple[str, Any]]) -> Row:
    """Return a JSON object's fields, as an `object_pairs_hook`; of two with one name, Python would keep the last.

    Raises:
        ValueError: two fields have one name.
    """
    if len(fields := dict(pairs)) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the field {next(name for name in names if names.count(name) > 1)!a} occurs twice")
    return fields


def _read_csv(path: Path) -> list[Row]:
    csv.field_size_limit(sys.maxsize)  # documents are longer than the default
    try:
        header, *records = [
            fields for fields in csv.reader(io.StringIO(read_text(path), newline=""), strict=True) if fields
        ] or [[]]
    except csv.Error as error:
        raise InputError(f"{path}: is not CSV ({error}). Export it again, or as jsonl.") from None
    if repeated := [name for name in header if name and header.count(name) > 1]:
        raise InputError(f"{path}: has two columns {repeated[0]!a}. Rename or remove one.")
    for number, fields in enumerate(records, start=1):
        if len(fields) > len(header):
            raise InputError(
                f"{path}, row {number}: has {len(fields)} fields, expected the header's {len(header)}. Quote texts "
                "that hold commas."
            )
    return [dict(zip(header, fields + [None] * (len(header) - len(fields)), strict=True)) for fields in records]


def _read_json_lines(path: Path) -> list[Row]:
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            try:
                row = json.loads(line, object_pairs_hook=read_pairs)
            except (ValueError, RecursionError) as error:
                raise InputError(
                    f"{path}, line {number}: is not JSON ({error}). Expected one object per line."
                ) from None
            if not isinstance(row, dict):
                raise InputError(f"{path}, line {number}: is a {type(row).__name__}, expected one object per line.")
            rows.append(row)
    return rows


def _read_parquet(path: Path) -> list[Row]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
        if repeated := [name for name in table.column_names if table.column_names.count(name) > 1]:
            raise InputError(f"{path}: has two columns {repeated[0]!a}. Rename or remove one.")
        return _read_table(path, table)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:  # the last of a column's name
        raise InputError(f"{path}: is not a Parquet file ({one_line(error)[:100]}). Export it again.") from None


def _read_table(path: Path, table: Any) -> list[Row]:  # noqa: ANN401 - pyarrow has no types
    try:
        rows: list[Row] = table.to_pylist()
    except UnicodeDecodeError:
        for number in range(table.num_rows):
            try:
                table.slice(number, 1).to_pylist()
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{path}, row {number + 1}: is not UTF-8 ({error.reason} at byte {error.start} of a text). Export "
                    "it again."
                ) from None
        raise
    return rows


# Suffix -> reader.
FORMATS: dict[str, Callable[[Path], list[Row]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_json_lines,
    ".parquet": _read_parquet,
}
