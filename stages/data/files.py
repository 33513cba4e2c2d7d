"""The few file formats of data/, written so that the same rows give the same bytes on every machine."""

import csv
import importlib.util
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from embed_foundry.errors import InputError


def table(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a CSV with a header line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def lines(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    """Write one JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8", newline="\n")


def package(name: str) -> Path:
    """Return an installed package's folder without importing it; some take seconds.

    Raises:
        InputError: it is not installed.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise InputError(f"package {name!r} is not installed; the builtin suite reads its texts. Next: make.")
    return Path(spec.origin).parent
