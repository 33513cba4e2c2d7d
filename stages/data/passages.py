"""passages/corpus.jsonl: texts to cut latency's inputs from, where no task has a corpus of its own at the top.

Latency reads `*/corpus.jsonl`. A suite of multilingual retrieval keeps its corpora a folder deeper, and one of STS
alone has none; this file takes their texts.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from stages.common.contract.tables import json_lines
from stages.data.choice import Choice
from stages.data.layout import CORPUS
from stages.data.shapes import TEXT

# Enough for every length that is timed: each text of a length begins with another passage.
MOST = 2000


def write(chosen: Sequence[Choice], work: Path) -> None:
    """Write the file under `work`, if it is needed."""
    if any(work.glob(f"*/{CORPUS}")):
        return
    texts = islice(dict.fromkeys(_texts(chosen, work)), MOST)
    json_lines(work / "passages" / CORPUS, ({"id": str(at), "text": text} for at, text in enumerate(texts)))


def _texts(chosen: Sequence[Choice], work: Path) -> Iterator[str]:
    corpora = sorted(work.glob(f"**/{CORPUS}"))
    for path in corpora:
        yield from (row["text"] for row in _rows(path))
    for one in [] if corpora else chosen:
        columns = [column for column, kind in one.shape.columns.items() if kind == TEXT]
        for path in sorted((work / one.name).glob("**/*.jsonl")) if columns else ():
            yield from (row[column] for row in _rows(path) for column in columns if row[column])


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="\n") as file:
        yield from map(json.loads, file)
