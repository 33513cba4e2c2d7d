"""A few rows of made-up text in the files of stock mteb tasks, at least one task of every type."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from stages.common.config.suite import AirgappedSuite

TOPICS = {
    "cats": "cat kitten whiskers purr milk fur paw sofa",
    "ships": "ship harbour sail anchor captain wave crew deck",
    "bread": "bread flour oven yeast crust baker dough salt",
}
LABELS = list(TOPICS)
QUERY_IDS = ("q0", "q1", "q2")


def sentence(topic: str, number: int) -> str:
    """Return a topic's sentence of a number; sentences differ, those of a topic share words."""
    words = TOPICS[topic].split()
    first, second = words[number % 8], words[(number // 8 + number + 1) % 8]
    return f"The {first} and the {second} are part {number} of the story."


def texts(count: int) -> list[tuple[str, int]]:
    """Return sentences with their topic's number; topics alternate."""
    return [(sentence(LABELS[number % 3], number // 3), number % 3) for number in range(count)]


def pairs(count: int) -> list[tuple[str, str, int]]:
    """Return pairs of sentences, of one topic (1) and of two topics (0) alternately."""
    return [(sentence(LABELS[n % 3], n), sentence(LABELS[(n + n % 2) % 3], n + 3), 1 - n % 2) for n in range(count)]


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write CSV, JSON lines or Parquet by the path's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    records = [dict(zip(header, row, strict=True)) for row in rows]
    if path.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(records), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, header)
            writer.writeheader()
            writer.writerows(records)
    else:
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def write_retrieval(
    folder: Path, query_ids: Sequence[str] = QUERY_IDS, query_columns: Mapping[str, object] | None = None
) -> None:
    """Write a corpus of 30 documents and queries about the topics by turns; a topic's documents are relevant."""
    documents = texts(30)
    corpus = [(f"d{number}", "", text) for number, (text, _) in enumerate(documents)]
    write_table(folder / "corpus.jsonl", ("id", "title", "text"), corpus)
    extra = query_columns or {}
    queries = [
        (query, sentence(LABELS[number % 3], 40 + number), *extra.values()) for number, query in enumerate(query_ids)
    ]
    write_table(folder / "queries.jsonl", ("id", "text", *extra), queries)
    qrels = [
        f"{query}\td{document}\t1\n"
        for number, query in enumerate(query_ids)
        for document, (_, label) in enumerate(documents)
        if label == number % 3
    ]
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(qrels), encoding="utf-8")


def write_reranking(
    folder: Path, query_ids: Sequence[str] = QUERY_IDS, query_columns: Mapping[str, object] | None = None
) -> None:
    """Write a retrieval task in which each query comes with ten documents to rerank."""
    write_retrieval(folder, query_ids, query_columns)
    ranked = [(query, [f"d{number}" for number in range(10)]) for query in query_ids]
    write_table(folder / "ranked.jsonl", ("query-id", "corpus-ids"), ranked)


def write_suite(root: Path) -> Path:
    """Write a folder for suite=airgapped with tasks of every type, and return it."""
    labelled = texts(36)
    _write_pairs(root)
    _write_classification(root, labelled)
    write_table(root / "HALClusteringS2S.v2" / "test.parquet", ("sentences", "labels"), labelled)
    sets = [[list(column) for column in zip(*labelled[start : start + 18], strict=True)] for start in (0, 18)]
    write_table(root / "WikiCitiesClustering" / "test.jsonl", ("sentences", "labels"), sets)
    write_retrieval(root / "SciFact")
    for subset in ("en", "de"):
        write_retrieval(root / "XQuADRetrieval" / subset)
    write_reranking(root / "AskUbuntuDupQuestions")
    _write_followir(root / "Core17InstructionRetrieval")
    translations = [(text, text.replace("The", "Le")) for text, _ in labelled]
    write_table(root / "Tatoeba" / "fra-eng" / "test.csv", ("sentence1", "sentence2"), translations)
    write_table(root / "NTREXBitextMining" / "test.parquet", ("eng_Latn", "fra_Latn"), translations)
    _write_summaries(root / "SummEvalSummarization.v2" / "test.jsonl")
    return root


def _write_pairs(root: Path) -> None:
    rated = [(left, right, 5.0 * same - n / 10 * same) for n, (left, right, same) in enumerate(pairs(20))]
    write_table(root / "STSBenchmark" / "test.csv", ("sentence1", "sentence2", "score"), rated)
    for split in ("validation", "test"):
        path = root / "SprintDuplicateQuestions" / f"{split}.csv"
        write_table(path, ("sentence1", "sentence2", "labels"), pairs(24))


def _write_classification(root: Path, labelled: list[tuple[str, int]]) -> None:
    for split in ("train", "test"):
        write_table(root / "Banking77Classification" / f"{split}.csv", ("text", "label"), labelled)
    for split in ("train", "validation", "test"):
        rows = [(text, LABELS[label]) for text, label in labelled]
        write_table(root / "MassiveScenarioClassification" / "en" / f"{split}.jsonl", ("text", "label"), rows)
    multilabel = [
        (text, [label] if number % 4 else [label, (label + 1) % 3]) for number, (text, label) in enumerate(texts(60))
    ]
    for split in ("train", "test"):
        write_table(root / "CEDRClassification" / f"{split}.jsonl", ("text", "label"), multilabel)


def _write_summaries(path: Path) -> None:
    rows = []
    for topic, (text, _) in enumerate(texts(3)):
        machine = [sentence(LABELS[(topic + number) % 3], 7 + number) for number in range(3)]
        rows.append((text, [sentence(LABELS[topic], 5)], machine, [4.0, 1.5, 2.0]))
    write_table(path, ("text", "human_summaries", "machine_summaries", "relevance"), rows)


def _write_followir(folder: Path) -> None:
    query_ids = [f"{number}-{version}" for number in range(3) for version in ("og", "changed")]
    write_reranking(folder, query_ids, {"instruction": "Take what is about it."})
    changed = [(str(number), [f"d{number}", f"d{number + 3}"]) for number in range(3)]
    write_table(folder / "changed.jsonl", ("query-id", "corpus-ids"), changed)


def airgapped(folder: Path, tasks: tuple[str, ...] = (), counts: str = "warn") -> AirgappedSuite:
    """Return the configuration of a suite from a folder of a user's tasks."""
    return AirgappedSuite(name="airgapped", source="folder", data=str(folder), tasks=list(tasks), counts=counts)
