"""The columns that a task needs from the rows of a user's file, each value checked."""

import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from embed_foundry.errors import InputError

from stages.common.contract.tables import Row
from stages.common.sources.rows import find_text_fault, list_names, require_text
from stages.common.sources.suite_files import ColumnType


def select_columns(path: Path, rows: list[Row], columns: Mapping[str, ColumnType]) -> list[Row]:
    """Return rows of `columns` alone, each value checked and, from a CSV file, converted.

    Args:
        path: the file, for messages.
        rows: its rows, at least one.
        columns: column -> what it holds.

    Raises:
        InputError: a column is missing, or a value has another type.
    """
    if missing := [column for column in columns if column not in rows[0]]:
        raise InputError(
            f"{path}: has no column {' and '.join(missing)}; there is {list_names(rows[0])}. "
            f"Rename its columns to {', '.join(columns)}."
        )
    converters: dict[str, Callable[[object], object]] = {}
    if path.suffix == ".csv":
        if lists := [column for column, kind in columns.items() if kind in _LISTS]:
            raise InputError(f"{path}: column {lists[0]} takes {columns[lists[0]]}, which CSV cannot hold. Use jsonl.")
        converters = {column: _csv_converter(kind, [row[column] for row in rows]) for column, kind in columns.items()}
    selected = [
        {
            column: _check(path, number, column, kind, converters.get(column, _same)(row.get(column)))
            for column, kind in columns.items()
        }
        for number, row in enumerate(rows, start=1)
    ]
    for column in (column for column, kind in columns.items() if kind in _LABELLED):
        _require_one_type(path, column, [row[column] for row in selected])
    return selected


def _csv_converter(kind: ColumnType, values: list[object]) -> Callable[[object], object]:
    """Return the conversion of a CSV column's strings: labels are whole numbers only if all of them are."""
    if kind == ColumnType.NUMBER:
        return _to_number
    whole = kind in _LABELLED and all(map(_is_whole_number, values))
    return int if whole else _same  # type: ignore[return-value]  # every value is a string of digits


def _same(value: object) -> object:
    return value


def _to_number(value: object) -> object:
    """Return a string's number; other strings as they are, for the check to report."""
    with suppress(TypeError, ValueError):
        return float(value)  # type: ignore[arg-type]  # that is what the try is for
    return value


def _check(path: Path, number: int, column: str, kind: ColumnType, value: object) -> object:
    if kind in (ColumnType.TEXT, ColumnType.TEXTS):
        for text in value if kind == ColumnType.TEXTS and isinstance(value, list) and value else [value]:
            require_text(path, number, column, text)
    elif not _CHECKS[kind](value):
        raise InputError(f"{path}, row {number}: {column} is {value!a:.60}, expected {kind}. Correct it.")
    return value


def _require_one_type(path: Path, column: str, values: list[object]) -> None:
    """Refuse labels of which some are words and others numbers: mteb sorts them."""
    first = None
    for number, value in enumerate(values, start=1):
        for label in value if isinstance(value, list) else [value]:
            if type(label) is not (first := first or type(label)):
                raise InputError(
                    f"{path}, row {number}: {column} is {label!a:.60}, a {type(label).__name__}, but an earlier row "
                    f"has a {first.__name__}. Give all labels one type."
                )


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False


def _is_label(value: object) -> bool:
    return (isinstance(value, int) and abs(value) < 2**63) or find_text_fault(value) is None


def _is_whole_number(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value) is not None


def _is_list_of(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and all(check(item) for item in value)


_LISTS = (ColumnType.TEXTS, ColumnType.NUMBERS, ColumnType.LABELS)
_LABELLED = (ColumnType.LABEL, ColumnType.BINARY, ColumnType.LABELS, ColumnType.LABEL_OR_LABELS)
_CHECKS: dict[ColumnType, Callable[[object], bool]] = {
    ColumnType.NUMBER: _is_number,
    ColumnType.LABEL: _is_label,
    ColumnType.BINARY: lambda value: isinstance(value, int) and value in (0, 1),
    ColumnType.NUMBERS: _is_list_of(_is_number),
    ColumnType.LABELS: _is_list_of(_is_label),
    ColumnType.LABEL_OR_LABELS: lambda value: _is_label(value) or _is_list_of(_is_label)(value),
}
