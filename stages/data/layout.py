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

from stages.common.contract.tables import json_lines
from stages.data.shapes import Retrieval, Rows, Shape

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
    """Write one split of one subset and return what was counted.

    That is rows and items of each column's lists; or documents, queries with an answer, and all that are listed.

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
    counted = Counter(documents=json_lines(folder / CORPUS, content.corpus))

    def answered() -> Rows:
        for row in content.queries:
            counted["listed"] += 1
            if row["id"] in content.relevant:  # as mteb: no answer, no question
                ids.append(row["id"])
                yield row

    counted["queries"] = json_lines(folder / QUERIES, answered())
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
