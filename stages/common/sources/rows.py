"""Reading a user's CSV, JSON lines or Parquet file into rows; every error names its place in the file."""

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

from embed_foundry.errors import InputError

from stages.common.contract.tables import Row


def read(path: Path) -> list[Row]:
    """Return the rows of a file by its suffix.

    Raises:
        InputError: it is not in the format of its suffix, or has no row.
    """
    rows = FORMATS[path.suffix](path)
    if not rows:
        raise InputError(f"{path}: is empty; expected one sample per row. Export it again.")
    return rows


def read_text(path: Path) -> str:
    """Return a file's text.

    Raises:
        InputError: it is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")  # Excel's byte order mark is not part of the first column's name
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 ({error.reason} at byte {error.start}). Save it as UTF-8.") from None


def _read_csv(path: Path) -> list[Row]:
    csv.field_size_limit(sys.maxsize)  # documents are longer than the default
    try:
        return list(csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True))
    except csv.Error as error:
        raise InputError(f"{path}: is not CSV ({error}). Export it again, or as jsonl.") from None


def _read_json_lines(path: Path) -> list[Row]:
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputError(
                    f"{path}, line {number}: is not JSON ({error}). Expected one object per line."
                ) from None
            if not isinstance(row, dict):
                raise InputError(f"{path}, line {number}: is a {type(row).__name__}, expected one object per line.")
            rows.append(row)
    return rows


def _read_parquet(path: Path) -> list[Row]:
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow import parquet

    try:
        rows: list[Row] = parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: is not a Parquet file ({str(error)[:100]}). Export it again.") from None
    return rows


# Suffix -> reader.
FORMATS: dict[str, Callable[[Path], list[Row]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_json_lines,
    ".parquet": _read_parquet,
}
