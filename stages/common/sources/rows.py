"""Reading a user's CSV, JSON lines or Parquet into rows; whatever is wrong with a file is told with its place."""

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from embed_foundry.errors import InputError

Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """Return the rows of a file by its suffix.

    Raises:
        InputError: it is not what its suffix says, or holds no row.
    """
    found = FORMATS[path.suffix](path)
    if not found:
        raise InputError(f"{path}: is empty; expected a sample a row. Export it again.")
    return found


def text(path: Path) -> str:
    """Return a file's text.

    Raises:
        InputError: it is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")  # Excel's byte order mark is no part of the first column's name
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 ({error.reason} at byte {error.start}). Save it as UTF-8.") from None


def _csv(path: Path) -> list[Row]:
    csv.field_size_limit(sys.maxsize)  # documents are longer than the default
    try:
        return list(csv.DictReader(io.StringIO(text(path), newline=""), strict=True))
    except csv.Error as error:
        raise InputError(f"{path}: is no CSV ({error}). Export it again, or as jsonl.") from None


def _json(path: Path) -> list[Row]:
    found = []
    for at, line in enumerate(text(path).split("\n")):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputError(f"{path}, line {at + 1}: is no JSON ({error}). Expected one object a line.") from None
            if not isinstance(row, dict):
                raise InputError(f"{path}, line {at + 1}: is a {type(row).__name__}, expected one object a line.")
            found.append(row)
    return found


def _parquet(path: Path) -> list[Row]:
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow import parquet

    try:
        found: list[Row] = parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: is no Parquet file ({str(error)[:100]}). Export it again.") from None
    return found


FORMATS: dict[str, Callable[[Path], list[Row]]] = {".csv": _csv, ".jsonl": _json, ".parquet": _parquet}
