"""Where the files of a stock task stand under data/, and how they are written: JSON lines, relevance as TSV.

    TASK/[SUBSET/]SPLIT.jsonl                                          rows
    TASK/[SUBSET/][SPLIT/]corpus.jsonl queries.jsonl qrels.tsv         retrieval, and where a task has them
                       ranked.jsonl changed.jsonl                  documents to rank; changed relevance (FollowIR)

A subset has a folder if mteb calls the task multilingual, a split of retrieval if the task has several.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from embed_foundry.errors import InputError

from stages.data.shapes import Retrieval, Rows, Shape
from stages.data.tables import json_lines

CORPUS, QUERIES, RELEVANT, RANKED, CHANGED = (
    "corpus.jsonl", "queries.jsonl", "qrels.tsv", "ranked.jsonl", "changed.jsonl"
)  # fmt: skip


def place(root: Path, subset: str, several: bool) -> Path:
    """Return the folder of a subset; `several` is whether subsets have folders."""
    return root / subset if several else root


def split_place(folder: Path, split: str, shape: Shape) -> Path:
    """Return the folder of a retrieval split."""
    return folder / split if len(shape.splits) > 1 else folder


def write(content: Rows | Retrieval, folder: Path, split: str, shape: Shape) -> Counter[str]:
    """Write one split of one subset and return what was counted: rows and items of lists, or documents and queries.

    Raises:
        InputError: an id cannot stand in a TSV file, or a value is no JSON value.
    """
    try:
        if isinstance(content, Retrieval):
            return _retrieval(content, split_place(folder, split, shape))
        counted: Counter[str] = Counter()
        json_lines(folder / f"{split}.jsonl", _counting(content, counted))
        return counted
    except ValueError as error:
        raise InputError(f"{folder.name}, split {split}: {error}; numbers must be finite. Correct the data.") from None


def _counting(rows: Iterable[Mapping[str, Any]], counted: Counter[str]) -> Iterable[Mapping[str, Any]]:
    for row in rows:
        counted["rows"] += 1
        for column, value in row.items():
            counted[column] += len(value) if isinstance(value, list) else 1
        yield row


def _retrieval(content: Retrieval, folder: Path) -> Counter[str]:
    ids: list[str] = []
    asked = (row for row in content.queries if row["id"] in content.relevant)  # as mteb: no answer, no question

    def noted(rows: Rows) -> Rows:
        for row in rows:
            ids.append(row["id"])
            yield row

    counted = Counter(documents=json_lines(folder / CORPUS, content.corpus))
    counted["queries"] = json_lines(folder / QUERIES, noted(asked))
    lines = [f"{q}\t{d}\t{score}" for q in ids for d, score in sorted(content.relevant[q].items())]
    if wrong := [line for line in lines if line.count("\t") != 2 or "\n" in line or "\r" in line]:
        raise ValueError(f"the ids of {wrong[0]!r} hold tabs or line ends")
    (folder / RELEVANT).write_bytes("".join(f"{line}\n" for line in lines).encode())
    if content.ranked is not None:
        ranked = content.ranked
        json_lines(folder / RANKED, ({"query-id": q, "corpus-ids": list(ranked[q])} for q in ids if q in ranked))
    if content.changed is not None:
        changed = sorted(content.changed.items())
        json_lines(folder / CHANGED, ({"query-id": q, "corpus-ids": list(found)} for q, found in changed))
    return counted
