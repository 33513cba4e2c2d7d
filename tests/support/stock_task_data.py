"""A few rows of made-up text in the files of stock mteb tasks, one task and more of every kind."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

TOPICS = {
    "cats": "cat kitten whiskers purr milk fur paw sofa",
    "ships": "ship harbour sail anchor captain wave crew deck",
    "bread": "bread flour oven yeast crust baker dough salt",
}
LABELS = list(TOPICS)


def sentence(topic: str, at: int) -> str:
    """Return the at-th sentence about a topic; sentences differ, topics share words."""
    words = TOPICS[topic].split()
    return f"The {words[at % 8]} and the {words[(at // 8 + at + 1) % 8]} are part {at} of the story."


def texts(count: int) -> list[tuple[str, int]]:
    """Return sentences with their topic's number, topics by turns."""
    return [(sentence(LABELS[at % 3], at // 3), at % 3) for at in range(count)]


def table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write CSV, JSON lines or Parquet by the path's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    listed = [dict(zip(header, row, strict=True)) for row in rows]
    if path.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(listed), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, header)
            writer.writeheader()
            writer.writerows(listed)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in listed), encoding="utf-8")


def retrieval(folder: Path, ids: Sequence[str] = ("q0", "q1", "q2"), more: Mapping[str, object] | None = None) -> None:
    """Write a corpus of 30 documents and a question a topic; a topic's documents are relevant."""
    found = texts(30)
    table(
        folder / "corpus.jsonl", ("id", "title", "text"), [(f"d{at}", "", text) for at, (text, _) in enumerate(found)]
    )
    names, extra = ["id", "text", *(more or {})], list((more or {}).values())
    rows = [(name, sentence(LABELS[at % 3], 40 + at), *extra) for at, name in enumerate(ids)]
    table(folder / "queries.jsonl", names, rows)
    lines = [
        f"{name}\td{at}\t1\n" for n, name in enumerate(ids) for at, (_, label) in enumerate(found) if label == n % 3
    ]
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines), encoding="utf-8")


def reranking(folder: Path, ids: Sequence[str] = ("q0", "q1", "q2"), more: Mapping[str, object] | None = None) -> None:
    """Write a retrieval task whose questions each bring ten documents to rank."""
    retrieval(folder, ids, more)
    table(folder / "ranked.jsonl", ("query-id", "corpus-ids"), [(name, [f"d{at}" for at in range(10)]) for name in ids])


def pairs(count: int) -> list[tuple[str, str, int]]:
    """Return pairs of sentences: of one topic (1) and of two (0) by turns."""
    return [
        (sentence(LABELS[at % 3], at), sentence(LABELS[(at + at % 2) % 3], at + 3), 1 - at % 2) for at in range(count)
    ]


def write(root: Path) -> Path:
    """Write a folder for suite=airgapped with tasks of every kind, and return it."""
    rated = [(one, other, 5.0 * same - at / 10 * same) for at, (one, other, same) in enumerate(pairs(20))]
    table(root / "STSBenchmark" / "test.csv", ("sentence1", "sentence2", "score"), rated)
    labelled = texts(36)
    for split in ("train", "test"):
        table(root / "Banking77Classification" / f"{split}.csv", ("text", "label"), labelled)
    for split in ("train", "validation", "test"):
        rows = [(text, LABELS[label]) for text, label in labelled]
        table(root / "MassiveScenarioClassification" / "en" / f"{split}.jsonl", ("text", "label"), rows)
    several = [(text, [label] if at % 4 else [label, (label + 1) % 3]) for at, (text, label) in enumerate(texts(60))]
    for split in ("train", "test"):
        table(root / "CEDRClassification" / f"{split}.jsonl", ("text", "label"), several)
    table(root / "HALClusteringS2S.v2" / "test.parquet", ("sentences", "labels"), labelled)
    sets = [[list(column) for column in zip(*labelled[at : at + 18], strict=True)] for at in (0, 18)]
    table(root / "WikiCitiesClustering" / "test.jsonl", ("sentences", "labels"), sets)
    retrieval(root / "SciFact")
    for subset in ("en", "de"):
        retrieval(root / "XQuADRetrieval" / subset)
    reranking(root / "AskUbuntuDupQuestions")
    changed = [f"{n}-{kind}" for n in range(3) for kind in ("og", "changed")]
    reranking(root / "Core17InstructionRetrieval", changed, {"instruction": "Take what is about it."})
    moved = [(str(n), [f"d{n}", f"d{n + 3}"]) for n in range(3)]
    table(root / "Core17InstructionRetrieval" / "changed.jsonl", ("query-id", "corpus-ids"), moved)
    translated = [(text, text.replace("The", "Le")) for text, _ in labelled]
    table(root / "Tatoeba" / "fra-eng" / "test.csv", ("sentence1", "sentence2"), translated)
    codes = ("eng_Latn", "fra_Latn")
    table(root / "NTREXBitextMining" / "test.parquet", codes, translated)
    for split in ("validation", "test"):
        table(root / "SprintDuplicateQuestions" / f"{split}.csv", ("sentence1", "sentence2", "labels"), pairs(24))
    summaries = [
        (text, [sentence(LABELS[at], 5)], [sentence(LABELS[(at + n) % 3], 7 + n) for n in range(3)], [4.0, 1.5, 2.0])
        for at, (text, _) in enumerate(texts(3))
    ]
    names = ("text", "human_summaries", "machine_summaries", "relevance")
    table(root / "SummEvalSummarization.v2" / "test.jsonl", names, summaries)
    return root
