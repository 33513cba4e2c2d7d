"""Texts that two releases are compared on: a retrieval task with its labels, or a user's own queries and documents."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..text_lines import read_lines

# Files of a retrieval task, as in BEIR and in data/ of a build.
CORPUS, QUERIES, QRELS = "corpus.jsonl", "queries.jsonl", "qrels.tsv"


@dataclass(frozen=True)
class RetrievalTexts:
    """Queries, the documents that they search, and what is relevant.

    Attributes:
        name: the task's, or the files'.
        queries: texts.
        documents: texts.
        relevant: for each query, position of a document -> its relevance, above 0; None without labels.
    """

    name: str
    queries: list[str]
    documents: list[str]
    relevant: list[dict[int, float]] | None = None


def is_task(folder: Path) -> bool:
    """Return whether a folder holds a retrieval task's three files."""
    return all((folder / name).is_file() for name in (CORPUS, QUERIES, QRELS))


def load_task(folder: Path) -> RetrievalTexts:
    """Read a retrieval task in BEIR's layout; queries without a relevant document are left out.

    Raises:
        InputError: a file is missing or unreadable, or no query has a relevant document.
    """
    documents = {str(row["id"]): _join(row) for row in _read_rows(folder / CORPUS)}
    queries = {str(row["id"]): str(row["text"]) for row in _read_rows(folder / QUERIES)}
    positions = {name: position for position, name in enumerate(documents)}
    relevant: dict[str, dict[int, float]] = {}
    for number, line in enumerate(_read_text(folder / QRELS), 1):
        query, _, rest = line.partition("\t")
        document, _, grade = rest.partition("\t")
        if grade.strip().isdigit():
            if query in queries and document in positions and int(grade):
                relevant.setdefault(query, {})[positions[document]] = float(grade)
        elif number > 1:  # the first line may name the columns
            raise InputError(f"{folder / QRELS}: line {number} is no `query TAB document TAB grade`. Correct it.")
    judged = [name for name in queries if name in relevant]
    if not judged:
        raise InputError(f"{folder}: no query has a relevant document. Choose another task.")
    return RetrievalTexts(
        folder.name, [queries[name] for name in judged], list(documents.values()), [relevant[name] for name in judged]
    )


def load_own(queries: Path, documents: Path) -> RetrievalTexts:
    """Read a user's queries and documents, without labels; see `read_texts` for formats and errors."""
    return RetrievalTexts(f"{queries.name} over {documents.name}", read_texts(queries), read_texts(documents))


def read_texts(path: Path) -> list[str]:
    """Return a file's texts: one a line, or the `text` of each line of JSON (.jsonl), a `title` before it.

    Raises:
        InputError: the file is missing, unreadable or empty.
    """
    texts = [_join(row) for row in _read_rows(path)] if path.suffix == ".jsonl" else _read_text(path)
    if not texts:
        raise InputError(f"{path}: has no text. Expected one a line, or .jsonl with a key `text`.")
    return texts


def _join(row: dict[str, object]) -> str:
    """Return a document's text as mteb joins it: title, space, text."""
    return f"{row.get('title') or ''} {row['text']}".strip()


def _read_text(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8") as stream:
            return read_lines(stream, str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). Correct the path.") from None


def _read_rows(path: Path) -> list[dict[str, object]]:
    return list(_parse_rows(path))


def _parse_rows(path: Path) -> Iterator[dict[str, object]]:
    for number, line in enumerate(_read_text(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            row = None
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise InputError(f"{path}: line {number} is no JSON object with a text under `text`. Correct it.")
        row["id"] = row.get("id", row.get("_id", number))  # BEIR itself has "_id"
        yield row
