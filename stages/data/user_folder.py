"""A user's folder of stock tasks: which tasks and subsets it holds, and the checked content of each split."""

import re
from collections.abc import Set
from pathlib import Path

from embed_foundry.errors import InputError

from stages.common.contract.tables import Row
from stages.common.sources import rows
from stages.common.sources.suite_files import MtebTask, RetrievalSplit, SplitContent, TaskFiles, TaskLayout
from stages.common.sources.suite_files.layout import CHANGED, CORPUS, QRELS, QUERIES, RANKED
from stages.common.sources.text_encoding import read_text
from stages.data.columns import select_columns

RELEVANCE = re.compile(r"-?[0-9]{1,9}")
HELP = "docs/suites.md shows the layout."


def list_tasks(root: Path) -> list[str]:
    """Return the names of the sub-folders, hidden ones left out.

    Raises:
        InputError: it is not a folder, or has no sub-folder.
    """
    if not root.is_dir():
        raise InputError(f"suite.data {root}: is not a folder. Set suite.data=FOLDER; it has one folder per task.")
    if not (names := _folder_names(root)):
        raise InputError(f"suite.data {root}: has no sub-folder; expected one per task, named as in mteb. {HELP}")
    return names


def list_subsets(task: MtebTask, folder: Path, layout: TaskLayout) -> list[str]:
    """Return the subsets of a task that its folder holds, in mteb's order.

    Raises:
        InputError: there is none, or a sub-folder is not a subset of the task.
    """
    name, existing = task.metadata.name, list(task.hf_subsets)
    if not folder.is_dir():
        raise InputError(f"{folder}: is missing, but suite.tasks names {name}. Add it, or leave the task out.")
    if layout.parallel:
        columns = set(rows.read(_find_rows_file(folder, layout.splits[0]))[0])
        if not (pairs := [pair for pair in existing if set(pair.split("-")) <= columns]):
            raise InputError(
                f"{folder}: its columns {rows.list_names(sorted(columns))} form no language pair of {name}, such as "
                f"{existing[0]}."
            )
        return pairs
    if not layout.subset_folders:
        return existing
    present = _folder_names(folder)
    if unknown := sorted(set(present) - set(existing)):
        raise InputError(
            f"{folder / unknown[0]}: is not a subset of {name}, which has {rows.list_names(sorted(existing))}. Rename "
            "or remove it."
        )
    if not present:
        raise InputError(
            f"{folder}: {name} is multilingual, expected a folder per subset: {rows.list_names(sorted(existing))}. "
            f"{HELP}"
        )
    return [subset for subset in existing if subset in present]


def read_split(files: TaskFiles, subset: str, split: str) -> SplitContent:
    """Return the checked content of one split of one subset.

    Raises:
        InputError: a file or column is missing or empty, or has values of another type than the task needs.
    """
    if files.layout.retrieval:
        return _read_retrieval(files.retrieval_folder(subset, split), files.layout)
    path = _find_rows_file(files.subset_folder(subset), split)
    return select_columns(path, rows.read(path), files.layout.columns)


def _read_retrieval(folder: Path, layout: TaskLayout) -> RetrievalSplit:
    if missing := [name for name in layout.retrieval_files if not (folder / name).is_file()]:
        raise InputError(
            f"{folder}: lacks {' and '.join(missing)}; expected {', '.join(layout.retrieval_files)}. {HELP}"
        )
    corpus, queries = _read_texts(folder / CORPUS), _read_texts(folder / QUERIES)
    relevant = _read_qrels(folder / QRELS)
    answered = {row["id"] for row in queries} & set(relevant)
    if not answered:
        raise InputError(f"{folder / QRELS}: names no query of {QUERIES}; its first column must hold their ids.")
    if {row["id"] for row in corpus}.isdisjoint(document for query in answered for document in relevant[query]):
        raise InputError(f"{folder / QRELS}: names no document of {CORPUS}; its second column must hold their ids.")
    known = {row["id"] for row in corpus}
    ranked = _read_document_lists(folder / RANKED, known) if layout.ranked else None
    if ranked is not None and (unranked := sorted(answered - set(ranked))):
        raise InputError(f"{folder / RANKED}: has no row for query {unranked[0]}. Add the documents to rank for it.")
    changed = _read_document_lists(folder / CHANGED) if layout.changed else None
    return RetrievalSplit(corpus, queries, relevant, ranked, changed)


def _read_texts(path: Path) -> list[Row]:
    """Return rows of id, text and, where the file has them, title and instruction."""
    texts: dict[str, Row] = {}
    for number, row in enumerate(rows.read(path), start=1):
        value = row.get("id", row.get("_id"))  # the latter is BEIR's
        if value is None or "text" not in row:
            raise InputError(
                f"{path}, row {number}: needs id and text, has {rows.list_names(row) or 'nothing'}. {HELP}"
            )
        identifier = _require_id(path, number, "id", value)
        if identifier in texts:
            raise InputError(f"{path}, row {number}: id {identifier} also occurs in an earlier row. Make ids unique.")
        optional = {column: row[column] for column in ("title", "instruction") if row.get(column) is not None}
        for column, text in optional.items():
            if text != "":
                rows.require_text(path, number, column, text)
        _require_content(path, number, row["text"], titled=bool(optional.get("title")))
        texts[identifier] = {"id": identifier, **optional, "text": row["text"]}
    return list(texts.values())


def _require_content(path: Path, number: int, text: object, *, titled: bool) -> None:
    """Refuse a text that mteb cannot read: it is a string, empty only below a title, or a conversation's turns."""
    if text == "" and titled:
        return
    turns = text if isinstance(text, list) and text else [{"content": text}]
    for turn in turns:
        if not isinstance(turn, dict):
            raise InputError(f"{path}, row {number}: text has the turn {turn!a:.60}, expected role and content. {HELP}")
        rows.require_text(path, number, "text", turn.get("content"))


def _require_id(path: Path, number: int, column: str, value: object) -> str:
    """Return an id as text; a number with a point would not be the same in another file."""
    identifier = str(value)
    is_id = isinstance(value, int | str) and not isinstance(value, bool)
    if not is_id or rows.find_text_fault(identifier) or re.search(r"[\t\r\n]", identifier):
        raise InputError(
            f"{path}, row {number}: {column} is {value!a:.60}, expected a whole number or a word without tabs and line "
            "ends. Correct it."
        )
    return identifier


def _read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Return query id -> document id -> relevance."""
    relevant: dict[str, dict[str, int]] = {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        parts = line.rstrip("\r").split("\t")
        if parts == [""] or (number == 1 and parts[-1] == "score"):  # the end; BEIR's header
            continue
        if len(parts) != 3 or not RELEVANCE.fullmatch(parts[2]):
            raise InputError(
                f"{path}, line {number}: expected query id, document id and a whole number, separated by tabs."
            )
        query, document, relevance = *parts[:2], int(parts[2])
        if relevant.setdefault(query, {}).setdefault(document, relevance) != relevance:
            raise InputError(
                f"{path}, line {number}: gives document {document!a} for query {query!a} another relevance than an "
                "earlier line. Remove one of them."
            )
    if not relevant:
        raise InputError(f"{path}: is empty; expected one line per relevant document. Export it again.")
    return relevant


def _read_document_lists(path: Path, known: Set[str] | None = None) -> dict[str, list[str]]:
    """Return query id -> document ids, each one of `known` if that is given."""
    documents: dict[str, list[str]] = {}
    for number, row in enumerate(rows.read(path), start=1):
        if "query-id" not in row or not isinstance(row.get("corpus-ids"), list):
            raise InputError(
                f"{path}, row {number}: needs query-id and a list corpus-ids, has {rows.list_names(row)}. {HELP}"
            )
        query = _require_id(path, number, "query-id", row["query-id"])
        if query in documents:
            raise InputError(f"{path}, row {number}: query {query} also occurs in an earlier row. Remove one of them.")
        documents[query] = [_require_id(path, number, "corpus-ids", value) for value in row["corpus-ids"]]
        if known is not None and (unknown := [value for value in documents[query] if value not in known]):
            raise InputError(f"{path}, row {number}: document {unknown[0]!a} is not in {CORPUS}. Add or remove it.")
    return documents


def _find_rows_file(folder: Path, split: str) -> Path:
    names = [f"{split}{suffix}" for suffix in rows.FORMATS]
    paths = [folder / name for name in names if (folder / name).is_file()]
    if len(paths) > 1:
        raise InputError(f"{folder}: {' and '.join(path.name for path in paths)} are the same split. Keep one.")
    if not paths:
        present = rows.list_names(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise InputError(f"{folder}: lacks {' or '.join(names)}; there is {present}. Add it. {HELP}")
    return paths[0]


def _folder_names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
