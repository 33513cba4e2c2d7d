"""Writing and reading the files of one task."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embed_foundry.errors import InputError

from stages.common.contract.tables import Row, read_csv, read_json_lines, write_csv, write_json_lines
from stages.common.sources.suite_files.layout import (
    CHANGED,
    CORPUS,
    QRELS,
    QUERIES,
    RANKED,
    ColumnType,
    RetrievalSplit,
    Rows,
    SplitContent,
    TaskLayout,
)

# What a split holds: "rows" and, by column, items of its lists; or "documents", "queries" (with an answer), and
# "listed" (all queries).
SampleCounts = Counter[str]
# CSV holds strings; builtin tasks have whole numbers as labels.
_FROM_CSV: dict[ColumnType, Callable[[str], object]] = {
    ColumnType.TEXT: str,
    ColumnType.LABEL: int,
    ColumnType.NUMBER: float,
}


@dataclass(frozen=True)
class TaskFiles:
    """The files of one task.

    Attributes:
        folder: the task's folder.
        layout: what its files hold.
    """

    folder: Path
    layout: TaskLayout

    def subset_folder(self, subset: str) -> Path:
        """Return the folder of a subset."""
        return self.folder / subset if self.layout.subset_folders else self.folder

    def retrieval_folder(self, subset: str, split: str) -> Path:
        """Return the folder of a retrieval split."""
        folder = self.subset_folder(subset)
        return folder / split if len(self.layout.splits) > 1 else folder

    def rows_file(self, subset: str, split: str) -> Path:
        """Return the file of a split's rows."""
        return self.subset_folder(subset) / f"{split}{self.layout.suffix}"

    def write(self, subset: str, split: str, content: SplitContent) -> SampleCounts:
        """Write one split of one subset and return its sample counts.

        Queries without a relevant document are left out, as mteb leaves them out.

        Raises:
            InputError: an id cannot stand in a TSV file, or a value is not a JSON value.
        """
        try:
            if isinstance(content, RetrievalSplit):
                return _write_retrieval(content, self.retrieval_folder(subset, split))
            return self._write_rows(subset, split, content)
        except ValueError as error:
            raise InputError(
                f"{self.subset_folder(subset).name}, split {split}: {error}; numbers must be finite. Correct the data."
            ) from None

    def read_rows(self, subset: str, split: str) -> list[Row]:
        """Return the rows of one split of one subset.

        Raises:
            FileNotFoundError: the file is missing.
        """
        path, columns = self.rows_file(subset, split), self.layout.columns
        if path.suffix == ".csv":
            return [{name: _FROM_CSV[kind](row[name]) for name, kind in columns.items()} for row in read_csv(path)]
        return list(read_json_lines(path))

    def read_retrieval(self, subset: str, split: str) -> RetrievalSplit:
        """Return one split of one subset of a retrieval task.

        Raises:
            FileNotFoundError: the corpus, the queries or the relevance is missing.
        """
        folder = self.retrieval_folder(subset, split)
        return RetrievalSplit(
            corpus=list(read_json_lines(folder / CORPUS)),
            queries=list(read_json_lines(folder / QUERIES)),
            relevant=_read_qrels(folder / QRELS),
            ranked=_read_document_lists(folder / RANKED),
            changed=_read_document_lists(folder / CHANGED),
        )

    def _write_rows(self, subset: str, split: str, rows: Rows) -> SampleCounts:
        counts: SampleCounts = Counter()
        path, counted = self.rows_file(subset, split), _count(rows, counts)
        if path.suffix == ".csv":
            columns = list(self.layout.columns)
            write_csv(path, columns, ([row[name] for name in columns] for row in counted))
        else:
            write_json_lines(path, counted)
        return counts


def _count(rows: Rows, counts: SampleCounts) -> Iterator[Mapping[str, Any]]:
    """Yield the rows, and count them and the items of their lists."""
    for row in rows:
        counts["rows"] += 1
        for column, value in row.items():
            counts[column] += len(value) if isinstance(value, list) else 1
        yield row


def _write_retrieval(content: RetrievalSplit, folder: Path) -> SampleCounts:
    query_ids: list[str] = []
    counts: SampleCounts = Counter(documents=write_json_lines(folder / CORPUS, content.corpus))

    def answered_queries() -> Rows:
        for row in content.queries:
            counts["listed"] += 1
            if row["id"] in content.relevant:
                query_ids.append(row["id"])
                yield row

    counts["queries"] = write_json_lines(folder / QUERIES, answered_queries())
    _write_qrels(folder / QRELS, content.relevant, query_ids)
    if content.ranked is not None:
        ranked_ids = [query for query in query_ids if query in content.ranked]
        _write_document_lists(folder / RANKED, content.ranked, ranked_ids)
    if content.changed is not None:
        _write_document_lists(folder / CHANGED, content.changed, sorted(content.changed))
    return counts


def _write_qrels(path: Path, relevant: Mapping[str, Mapping[str, int]], query_ids: Iterable[str]) -> None:
    """Write lines of query id, document id and relevance."""
    lines = [
        f"{query}\t{document}\t{relevance}"
        for query in query_ids
        for document, relevance in sorted(relevant[query].items())
    ]
    if broken := [line for line in lines if line.count("\t") != 2 or "\n" in line or "\r" in line]:
        raise ValueError(f"the ids of {broken[0]!r} hold tabs or line ends")
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())


def _read_qrels(path: Path) -> dict[str, dict[str, int]]:
    relevant: dict[str, dict[str, int]] = {}
    for line in path.read_text(encoding="utf-8").split("\n"):
        if line:
            query, document, relevance = line.split("\t")
            relevant.setdefault(query, {})[document] = int(relevance)
    return relevant


def _write_document_lists(path: Path, documents: Mapping[str, list[str]], query_ids: Iterable[str]) -> None:
    write_json_lines(path, ({"query-id": query, "corpus-ids": list(documents[query])} for query in query_ids))


def _read_document_lists(path: Path) -> dict[str, list[str]] | None:
    """Return query id -> document ids; None if there is no such file."""
    return {row["query-id"]: row["corpus-ids"] for row in read_json_lines(path)} if path.is_file() else None
