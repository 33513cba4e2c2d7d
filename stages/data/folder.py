"""A user's folder of stock tasks: which tasks and subsets it holds, and the checked content of each split."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from embed_foundry.errors import InputError

from stages.common.sources import rows
from stages.data import files
from stages.data.layout import CHANGED, CORPUS, QUERIES, RANKED, RELEVANT, split_place
from stages.data.shapes import Retrieval, Rows, Shape

HELP = "docs/suites.md shows the layout."


def tasks(root: Path) -> list[str]:
    """Return the names of the folder's sub-folders, hidden ones aside.

    Raises:
        InputError: it is no folder, or has no sub-folder.
    """
    if not root.is_dir():
        raise InputError(f"suite.data {root}: is not a folder. Set suite.data=FOLDER to one with a folder a task.")
    found = _folders(root)
    if not found:
        raise InputError(f"suite.data {root}: has no folder; expected one a task, named like it in mteb. {HELP}")
    return found


def subsets(task: Any, folder: Path, shape: Shape) -> list[str]:  # noqa: ANN401 - mteb has no types
    """Return the subsets of a task that its folder holds, in mteb's order.

    Raises:
        InputError: there is none, or a sub-folder is no subset of the task.
    """
    name, known = task.metadata.name, list(task.hf_subsets)
    if not folder.is_dir():
        raise InputError(f"{folder}: is not there, and suite.tasks names {name}. Add it, or leave the task out.")
    if shape.parallel:
        present = set(rows.read(_split_file(folder, shape.splits[0]))[0])
        if not (pairs := [pair for pair in known if set(pair.split("-")) <= present]):
            raise InputError(f"{folder}: its columns {_some(present)} make no pair of {name}, such as {known[0]}.")
        return pairs
    if not task.metadata.is_multilingual:
        return known
    there = _folders(folder)
    if wrong := sorted(set(there) - set(known)):
        raise InputError(f"{folder / wrong[0]}: is no subset of {name}; there are {_some(known)}. Rename or remove it.")
    if not there:
        raise InputError(f"{folder}: {name} is multilingual, expected a folder a subset: {_some(known)}. {HELP}")
    return [subset for subset in known if subset in there]


def read(folder: Path, split: str, shape: Shape) -> Rows | Retrieval:
    """Return the checked content of one split of one subset.

    Raises:
        InputError: a file or column is missing, empty, or holds something else than the task needs.
    """
    if shape.retrieval:
        return _retrieval(split_place(folder, split, shape), shape)
    path = _split_file(folder, split)
    return files.chosen(path, rows.read(path), shape.columns)


def _retrieval(folder: Path, shape: Shape) -> Retrieval:
    names = (CORPUS, QUERIES, RELEVANT, *((RANKED,) if shape.ranked else ()), *((CHANGED,) if shape.changed else ()))
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise InputError(f"{folder}: lacks {' and '.join(missing)}; expected {', '.join(names)}. {HELP}")
    corpus, queries = _texts(folder / CORPUS), _texts(folder / QUERIES)
    relevant = _relevant(folder / RELEVANT)
    asked = {row["id"] for row in queries} & set(relevant)
    if not asked:
        raise InputError(f"{folder / RELEVANT}: names no query of {QUERIES}; its first column must hold their ids.")
    if {row["id"] for row in corpus}.isdisjoint(document for query in asked for document in relevant[query]):
        raise InputError(f"{folder / RELEVANT}: names no document of {CORPUS}; its second column must hold their ids.")
    ranked = _lists(folder / RANKED) if shape.ranked else None
    if ranked is not None and (unranked := sorted(asked - set(ranked))):
        raise InputError(f"{folder / RANKED}: has no row for query {unranked[0]}. Add the documents to rank for it.")
    return Retrieval(corpus, queries, relevant, ranked, _lists(folder / CHANGED) if shape.changed else None)


def _texts(path: Path) -> list[dict[str, Any]]:
    """Return {id, title?, instruction?, text} a row."""
    found: dict[str, dict[str, Any]] = {}
    for at, row in enumerate(rows.read(path)):
        name = row.get("id", row.get("_id"))  # the latter is BEIR's
        if name is None or not isinstance(row.get("text"), str | list):
            raise InputError(f"{path}, row {at + 1}: needs id and text, has {', '.join(row) or 'nothing'}. {HELP}")
        if str(name) in found:
            raise InputError(f"{path}, row {at + 1}: id {name} stands in an earlier row too. Give each its own.")
        more = {column: row[column] for column in ("title", "instruction") if row.get(column) is not None}
        found[str(name)] = {"id": str(name), **more, "text": row["text"]}
    return list(found.values())


def _relevant(path: Path) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for at, line in enumerate(rows.text(path).split("\n")):
        parts = line.rstrip("\r").split("\t")
        if parts == [""] or (at == 0 and parts[-1] == "score"):  # the end; BEIR's header
            continue
        if len(parts) != 3 or not parts[2].lstrip("-").isdecimal():
            raise InputError(f"{path}, line {at + 1}: expected query id, document id and a whole number, tabs between.")
        found.setdefault(parts[0], {})[parts[1]] = int(parts[2])
    if not found:
        raise InputError(f"{path}: is empty; expected a line a relevant document. Export it again.")
    return found


def _lists(path: Path) -> dict[str, list[str]]:
    """Return query id -> document ids."""
    found = {}
    for at, row in enumerate(rows.read(path)):
        if "query-id" not in row or not isinstance(row.get("corpus-ids"), list):
            raise InputError(
                f"{path}, row {at + 1}: needs query-id and a list corpus-ids, has {', '.join(row)}. {HELP}"
            )
        found[str(row["query-id"])] = [str(one) for one in row["corpus-ids"]]
    return found


def _split_file(folder: Path, split: str) -> Path:
    names = [f"{split}{form}" for form in rows.FORMATS]
    found = [folder / name for name in names if (folder / name).is_file()]
    if len(found) > 1:
        raise InputError(f"{folder}: {' and '.join(path.name for path in found)} are the same split. Leave one.")
    if not found:
        there = _some(path.name for path in folder.iterdir()) or "nothing"
        raise InputError(f"{folder}: lacks {' or '.join(names)}; there is {there}. Add it. {HELP}")
    return found[0]


def _folders(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:8]) + (" …" if len(ordered) > 8 else "")
