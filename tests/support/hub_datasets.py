"""Dataset repositories as mteb's tasks expect them at the hub, made up: file name -> content."""

import json

# The datasets and commits that mteb pins, and the samples it publishes.
STSB, STSB_REVISION, STSB_ROWS = "mteb/stsbenchmark-sts", "b0fddb56ed78048fa8b90373c8a3cfc37b684831", 1379
SCIFACT, SCIFACT_REVISION, DOCUMENTS, QUERIES = "mteb/scifact", "d56462d0e63a25450459c4f213e49ffdb866f7f9", 5183, 300


def json_lines(*rows: dict) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def stsb(count: int = STSB_ROWS) -> dict[str, bytes]:
    pairs = (
        {"sentence1": f"one {number}", "sentence2": f"two {number}", "score": number % 6 / 1.0, "id": number}
        for number in range(count)
    )
    return {"test.jsonl": json_lines(*pairs), "README.md": b"---\nlanguage: en\n---\n"}


def scifact() -> dict[str, bytes]:
    corpus = ({"_id": str(number), "title": f"t{number}", "text": f"document {number}"} for number in range(DOCUMENTS))
    # Nine questions without an answer, which mteb leaves out.
    queries = ({"_id": f"q{number}", "text": f"question {number}"} for number in range(QUERIES + 9))
    relevance = ({"query-id": f"q{number}", "corpus-id": str(number), "score": 1.0} for number in range(QUERIES))
    return repository({
        "corpus/corpus.jsonl": json_lines(*corpus),
        "queries/queries.jsonl": json_lines(*queries),
        "default/test.jsonl": json_lines(*relevance),
    })  # fmt: skip


def card(*files: str) -> bytes:
    """Return a dataset card: each file CONFIGURATION/SPLIT.jsonl is a configuration."""
    lines = [
        f"- config_name: {configuration}\n  data_files: [{{split: {split}, path: {configuration}/{split}.jsonl}}]"
        for configuration, _, split in (file.removesuffix(".jsonl").partition("/") for file in files)
    ]
    return "\n".join(["---", "configs:", *lines, "---\n"]).encode()


def repository(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return files with a card that lists them."""
    return {"README.md": card(*files), **files}


PAIR = {"sentence1": "a", "sentence2": "b", "score": 2.0}
# One dataset for each way in which mteb's tasks load: task -> files at the hub, subsets to take, what comes out.
LOADERS = {
    "STS22": (  # all languages in one file
        {"test.jsonl": json_lines(PAIR | {"lang": "en"}, PAIR | {"lang": "fr"}, PAIR | {"lang": "de"})},
        ["en", "fr"], {"en/test.jsonl": [PAIR], "fr/test.jsonl": [PAIR]},
    ),
    "XQuADRetrieval": (  # configurations by language
        repository({
            "en-corpus/validation.jsonl": json_lines({"_id": "d", "title": "t", "text": "x"}),
            "en-queries/validation.jsonl": json_lines({"_id": "q", "text": "y"}),
            "en-qrels/validation.jsonl": json_lines({"query-id": "q", "corpus-id": "d", "score": 1}),
        }),
        ["en"],
        {"en/corpus.jsonl": [{"id": "d", "title": "t", "text": "x"}], "en/queries.jsonl": [{"id": "q", "text": "y"}]},
    ),
    "Core17InstructionRetrieval": (  # a ranking, instructions, and changed relevance
        repository({
            "corpus/corpus.jsonl": json_lines({"_id": "d", "title": "", "text": "x"}),
            "queries/queries.jsonl": json_lines({"_id": "1-og", "text": "y"}),
            "default/test.jsonl": json_lines({"query-id": "1-og", "corpus-id": "d", "score": 1}),
            "top_ranked/top_ranked.jsonl": json_lines({"query-id": "1-og", "corpus-ids": ["d"]}),
            "instruction/instruction.jsonl": json_lines({"query-id": "1-og", "instruction": "z"}),
            "qrel_diff/qrel_diff.jsonl": json_lines({"query-id": "1", "corpus-ids": ["d"]}),
        }),
        [],
        {
            "queries.jsonl": [{"id": "1-og", "text": "y", "instruction": "z"}],
            "ranked.jsonl": [{"query-id": "1-og", "corpus-ids": ["d"]}],
            "changed.jsonl": [{"query-id": "1", "corpus-ids": ["d"]}],
        },
    ),
    "NTREXBitextMining": (  # one column per language
        {"test.jsonl": json_lines({"eng_Latn": "a", "fra_Latn": "b", "deu_Latn": "c"})},
        ["eng_Latn-fra_Latn"], {"test.jsonl": [{"eng_Latn": "a", "fra_Latn": "b"}]},
    ),
    "SprintDuplicateQuestions": (  # one row of lists, columns renamed by the task
        {"test.jsonl": json_lines({"sent1": ["a", "c"], "sent2": ["b", "d"], "labels": [1, 0]})},
        [],
        {"test.jsonl": [{"sentence1": x, "sentence2": y, "labels": z} for x, y, z in (("a", "b", 1), ("c", "d", 0))]},
    ),
    "TwentyNewsgroupsClustering.v2": (  # sets that the task joins
        {"test.jsonl": json_lines(*[{"sentences": ["a", "b"], "labels": ["x", "y"]}] * 2)},
        [], {"test.jsonl": [{"sentences": t, "labels": x} for t, x in (("a", "x"), ("b", "y"))] * 2},
    ),
    "Banking77Classification": (
        {f"{split}.jsonl": json_lines({"text": split, "label": 1, "label_text": "z"}) for split in ("train", "test")},
        [], {f"{split}.jsonl": [{"text": split, "label": 1}] for split in ("train", "test")},
    ),
}  # fmt: skip
