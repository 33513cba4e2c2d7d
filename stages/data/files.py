"""The columns that a task needs out of a user's rows; whatever is wrong with a value is told with its place."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from embed_foundry.errors import InputError

from stages.common.sources.rows import Row
from stages.data import shapes


def chosen(path: Path, found: list[Row], columns: Mapping[str, str]) -> list[Row]:
    """Return rows of `columns` alone, each value checked and, from a CSV file, converted.

    Args:
        path: the file, for messages.
        found: its rows.
        columns: column -> what it holds (shapes.TEXT …).

    Raises:
        InputError: a column is missing, or a value is something else.
    """
    if missing := [column for column in columns if column not in found[0]]:
        raise InputError(
            f"{path}: has no column {' and '.join(missing)}; there is {', '.join(map(str, found[0]))}. "
            f"Rename its columns to {', '.join(columns)}."
        )
    words = path.suffix == ".csv"
    if lists := [column for column, kind in columns.items() if words and kind in _LISTS]:
        raise InputError(f"{path}: column {lists[0]} takes {columns[lists[0]]}, which CSV cannot hold. Use jsonl.")
    numbers = {
        column: words and all(_whole(row[column]) for row in found)
        for column, kind in columns.items()
        if kind in (shapes.LABEL, shapes.LABEL_OR_LABELS)
    }
    return [
        {column: _value(path, at, column, kind, row.get(column), words, numbers.get(column, False))
         for column, kind in columns.items()}
        for at, row in enumerate(found)
    ]  # fmt: skip


def _value(path: Path, at: int, column: str, kind: str, value: Any, words: bool, number: bool) -> Any:  # noqa: ANN401
    if words and number:
        value = int(value)
    elif words and kind == shapes.NUMBER:
        with suppress(TypeError, ValueError):  # what is no number is told below
            value = float(value)
    if not _CHECKS[kind](value):
        raise InputError(f"{path}, row {at + 1}: {column} is {value!r:.60}, expected {kind}. Correct it.")
    return value


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _is_label(value: object) -> bool:
    return isinstance(value, int | str) and value != ""


def _listed(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and all(check(one) for one in value)


def _whole(value: object) -> bool:
    return isinstance(value, str) and value.lstrip("-").isdecimal()


_LISTS = (shapes.TEXTS, shapes.NUMBERS, shapes.LABELS)
_CHECKS: dict[str, Callable[[object], bool]] = {
    shapes.TEXT: _is_text,
    shapes.NUMBER: _is_number,
    shapes.LABEL: _is_label,
    shapes.TEXTS: _listed(_is_text),
    shapes.NUMBERS: _listed(_is_number),
    shapes.LABELS: _listed(_is_label),
    shapes.LABEL_OR_LABELS: lambda value: _is_label(value) or _listed(_is_label)(value),
}
