"""What the files of one task hold.

    TASK/[SUBSET/]SPLIT.jsonl                                     rows of a stock mteb task
    TASK/[SUBSET/]SPLIT.csv                                       rows of a builtin task
    TASK/[SUBSET/][SPLIT/]corpus.jsonl queries.jsonl qrels.tsv    retrieval
                          ranked.jsonl                            documents to rerank for each query
                          changed.jsonl                           changed relevance (FollowIR)

Subsets have folders if mteb calls the task multilingual, splits of retrieval if the task has more than one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

CORPUS, QUERIES, QRELS, RANKED, CHANGED = (
    "corpus.jsonl", "queries.jsonl", "qrels.tsv", "ranked.jsonl", "changed.jsonl"
)  # fmt: skip
Rows = Iterable[Mapping[str, Any]]


class ColumnType(StrEnum):
    """What a column holds, as messages say it. A label is a whole number or a word; a list is one cell."""

    TEXT = "a text"
    NUMBER = "a number"
    LABEL = "a label"
    BINARY = "0 or 1"
    TEXTS = "a list of texts"
    NUMBERS = "a list of numbers"
    LABELS = "a list of labels"
    LABEL_OR_LABELS = "a label or a list of labels"


@dataclass(frozen=True)
class TaskLayout:
    """The files of one task.

    Attributes:
        splits: names of the splits that mteb reads, including the training split.
        columns: column -> what it holds; empty for retrieval.
        suffix: of the files of rows.
        subset_folders: each subset has a folder of its own.
        retrieval: corpus, queries and relevance instead of rows.
        ranked: each query comes with the documents to rerank.
        changed: instructions come in pairs, and a file says which relevance the second one changes (FollowIR's p-MRR).
        parallel: one table whose columns are languages; a subset is a pair of columns.
    """

    splits: tuple[str, ...]
    columns: Mapping[str, ColumnType] = field(default_factory=dict)
    suffix: str = ".jsonl"
    subset_folders: bool = False
    retrieval: bool = False
    ranked: bool = False
    changed: bool = False
    parallel: bool = False

    @property
    def retrieval_files(self) -> tuple[str, ...]:
        """Return the names of the files of a retrieval split."""
        return (CORPUS, QUERIES, QRELS, *((RANKED,) if self.ranked else ()), *((CHANGED,) if self.changed else ()))


@dataclass(frozen=True)
class RetrievalSplit:
    """One split of a retrieval or reranking task.

    Attributes:
        corpus: rows of id, text and maybe title.
        queries: rows of id, text and maybe instruction.
        relevant: query id -> document id -> relevance.
        ranked: query id -> ids of the documents to rerank; None if the task has none.
        changed: query id without -og or -changed -> ids of the documents whose relevance changes; None if the task
            has none.
    """

    corpus: Rows
    queries: Rows
    relevant: Mapping[str, Mapping[str, int]]
    ranked: Mapping[str, list[str]] | None = None
    changed: Mapping[str, list[str]] | None = None


SplitContent = Rows | RetrievalSplit

# Type of a builtin task -> its layout.
BUILTIN_LAYOUTS = {
    "Retrieval": TaskLayout(("test",), retrieval=True),
    "Classification": TaskLayout(
        ("train", "test"), {"text": ColumnType.TEXT, "label": ColumnType.LABEL}, suffix=".csv"
    ),
    "Clustering": TaskLayout(("test",), {"sentences": ColumnType.TEXT, "labels": ColumnType.LABEL}, suffix=".csv"),
    "BitextMining": TaskLayout(
        ("test",), {"sentence1": ColumnType.TEXT, "sentence2": ColumnType.TEXT}, suffix=".csv", subset_folders=True
    ),
    "STS": TaskLayout(
        ("test",),
        {"sentence1": ColumnType.TEXT, "sentence2": ColumnType.TEXT, "score": ColumnType.NUMBER},
        suffix=".csv",
    ),
}
