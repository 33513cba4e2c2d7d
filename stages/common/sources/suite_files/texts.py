"""The texts of a whole suite: all of them, and passages to cut latency's inputs from.

Passages are the documents of `*/corpus.jsonl`. Where no task has such a file (multilingual retrieval keeps corpora one
folder deeper, STS has none), `passages/corpus.jsonl` holds texts of the suite.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from embed_foundry.errors import InputError

from stages.common.contract.tables import read_csv, read_json_lines, write_json_lines
from stages.common.sources.suite_files.layout import CORPUS, ColumnType, TaskLayout

PASSAGES = "passages"
# Enough for every length that is timed: each text of a length begins with another passage.
PASSAGES_MAX = 2000
_READERS = {".csv": read_csv, ".jsonl": read_json_lines}


def read_texts(data: Path, rows_per_file: int | None = None) -> Iterator[str]:
    """Yield every string in the CSV and JSON lines files of a suite's tasks.

    Args:
        data: the suite's folder.
        rows_per_file: read at most so many rows of each file; None reads all.
    """
    for path in sorted(data.glob("*/**/*")):
        if path.suffix in _READERS:
            for row in islice(_READERS[path.suffix](path), rows_per_file):
                yield from _collect_strings(row)


def _collect_strings(value: object) -> Iterator[str]:
    """Yield the strings in a JSON value at any depth: conversations have their turns in lists of objects."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _collect_strings(item)


def read_passages(data: Path) -> list[str]:
    """Return the different passages of a suite in the order of their files, white space collapsed.

    Raises:
        InputError: there is none.
    """
    rows = (row for path in sorted(data.glob(f"*/{CORPUS}")) for row in read_json_lines(path))
    passages = [" ".join(f"{row.get('title') or ''} {row['text']}".split()) for row in rows]
    if not (different := [passage for passage in dict.fromkeys(passages) if passage]):
        raise InputError(
            f"{data}: has no */{CORPUS} with texts, and latency cuts its inputs from them. Choose a suite with one."
        )
    return different


def write_passages(data: Path, layouts: Mapping[str, TaskLayout]) -> None:
    """Write passages/corpus.jsonl if no task has a corpus directly in its folder.

    Args:
        data: the suite's folder, with all tasks written.
        layouts: task -> layout.
    """
    if any(data.glob(f"*/{CORPUS}")):
        return
    passages = islice(dict.fromkeys(_passage_candidates(data, layouts)), PASSAGES_MAX)
    rows = ({"id": str(index), "text": text} for index, text in enumerate(passages))
    write_json_lines(data / PASSAGES / CORPUS, rows)


def _passage_candidates(data: Path, layouts: Mapping[str, TaskLayout]) -> Iterator[str]:
    """Yield the documents of deeper corpora; without any, the texts of all tasks."""
    corpora = sorted(data.glob(f"**/{CORPUS}"))
    for path in corpora:
        yield from (row["text"] for row in read_json_lines(path))
    for task, layout in () if corpora else layouts.items():
        columns = [column for column, kind in layout.columns.items() if kind == ColumnType.TEXT]
        for path in sorted((data / task).glob("**/*.jsonl")) if columns else ():
            yield from (row[column] for row in read_json_lines(path) for column in columns if row[column])
