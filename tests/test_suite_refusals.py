"""A user's suite folder that mteb could not use: each fault is named by file and row, and nothing is written."""

import shutil
from pathlib import Path

import pytest
from embed_foundry.errors import InputError

from stages import data
from support import stock_task_data


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a user's folder with a few rows of every kind of task."""
    return stock_task_data.write_suite(tmp_path_factory.mktemp("mine") / "tasks")


@pytest.fixture
def mine(folder, tmp_path) -> Path:
    """Return a copy of the user's folder, to break."""
    return Path(shutil.copytree(folder, tmp_path / "mine"))


def put(name: str, content: str | bytes, instead: str | None = None):
    def change(root: Path) -> None:
        path = root / name
        if instead:
            shutil.rmtree(root / instead)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return change


def without(name: str):
    def change(root: Path) -> None:
        shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()

    return change


STS, BANKING, NTREX = "STSBenchmark/test.csv", "Banking77Classification/train.csv", "NTREXBitextMining/test.parquet"
TATOEBA, PAIRS = "Tatoeba/fra-eng/test.jsonl", "SprintDuplicateQuestions/test.csv"
CORPUS = "SciFact/corpus.jsonl"
WRONG = {
    "a folder that is no task": (put("STSbenchmarks/test.csv", "a\n"), ("STSbenchmarks is not a task", "STSBenchmark")),
    "an aggregate": (put("CQADupstackRetrieval/x", ""), ("only averages", "CQADupstackAndroidRetrieval")),
    "pictures": (put("CIFAR10/test.csv", "a\n"), ("CIFAR10: takes image", "only text")),
    "no split": (without(STS), ("lacks test.csv or test.jsonl or test.parquet", "there is nothing", "docs/suites.md")),
    "no training split": (without(BANKING), ("lacks train.csv", "there is test.csv")),
    "two of a split": (put("STSBenchmark/test.jsonl", "{}\n"), ("test.csv and test.jsonl are the same split",)),
    "no column": (put(STS, "sentence1,sentence_2,score\na,b,1\n"), ("no column sentence2", "there is sentence1, sent")),
    "empty": (put(STS, ""), ("test.csv: is empty", "Export it again")),
    "header alone": (put(STS, "sentence1,sentence2,score\n"), ("test.csv: is empty",)),
    "no number": (put(STS, "sentence1,sentence2,score\na,b,high\n"), ("row 1: score is 'high', expected a number")),
    "nan": (put(STS, "sentence1,sentence2,score\na,b,nan\n"), ("row 1: score is nan, expected a number",)),
    "short row": (put(STS, "sentence1,sentence2,score\na,b,1\na,b\n"), ("row 2: score is None, expected a number",)),
    "no label": (put(BANKING, "text,label\na,1\nb,\n"), ("row 2: label is '', expected a label",)),
    "not UTF-8": (put(STS, b"sentence1,sentence2,score\n\xff,b,1\n"), ("is not UTF-8", "Save it as UTF-8")),
    "broken CSV": (put(STS, 'sentence1,sentence2,score\n"a"x,b,1\n'), ("is not CSV",)),
    "broken JSON": (put("CEDRClassification/test.jsonl", '{"text": \n'), ("test.jsonl, line 1: is not JSON",)),
    "JSON of lists": (put("CEDRClassification/test.jsonl", "[1]\n"), ("line 1: is a list, expected one object",)),
    "one label for a list": (
        put("CEDRClassification/test.jsonl", '{"text": "a", "label": 1}\n'),
        ("row 1: label is 1, expected a list of labels",),
    ),
    "broken Parquet": (put(NTREX, b"PAR1"), ("test.parquet: is not a Parquet file",)),
    "no pair": (without(NTREX), ("lacks test.csv",)),
    "lists in CSV": (
        lambda root: [
            without("WikiCitiesClustering")(root),
            put("WikiCitiesClustering/test.csv", "sentences,labels\na,1")(root),
        ],
        ("sentences takes a list of texts, which CSV cannot hold", "Use jsonl"),
    ),
    "no subset": (without("Tatoeba/fra-eng"), ("Tatoeba is multilingual, expected a folder per subset",)),
    "unknown subset": (put("Tatoeba/fr-en/test.csv", "a\n"), ("fr-en: is not a subset of Tatoeba",)),
    "no corpus": (without("SciFact/corpus.jsonl"), ("SciFact: lacks corpus.jsonl; expected",)),
    "no ranking": (without("AskUbuntuDupQuestions/ranked.jsonl"), ("lacks ranked.jsonl",)),
    "a question without ranking": (
        put("AskUbuntuDupQuestions/ranked.jsonl", '{"query-id": "q1", "corpus-ids": ["d1"]}\n'),
        ("has no row for query q0",),
    ),
    "ids of other questions": (put("SciFact/qrels.tsv", "x\td1\t1\n"), ("names no query of queries.jsonl",)),
    "ids of other documents": (put("SciFact/qrels.tsv", "q0\tx\t1\n"), ("names no document of corpus.jsonl",)),
    "spaces for tabs": (put("SciFact/qrels.tsv", "q0 d1 1\n"), ("qrels.tsv, line 1: expected query id",)),
    "no judgement": (put("SciFact/qrels.tsv", "query-id\tcorpus-id\tscore\n"), ("qrels.tsv: is empty",)),
    "an id twice": (put("SciFact/queries.jsonl", '{"id": "q0", "text": "a"}\n' * 2), ("id q0 also occurs in",)),
    "half a character": (
        put(TATOEBA, '{"sentence1": "\\ud83d", "sentence2": "b"}\n', "Tatoeba/fra-eng"),
        ("row 1: sentence1 holds half of a character",),
    ),
    "NUL": (
        put(TATOEBA, '{"sentence1": "a\\u0000", "sentence2": "b"}\n', "Tatoeba/fra-eng"),
        ("a NUL character at 2",),
    ),
    "zero bytes": (put(STS, b"sentence1,sentence2,score\na\0,b,1\n"), ("byte 27 is zero, so it is UTF-16 without",)),
    "no text": (put(STS, "sentence1,sentence2,score\na,b,1\n , b,1\n"), ("row 2: sentence1 is ' ', expected text",)),
    "infinite": (put(STS, "sentence1,sentence2,score\na,b,inf\n"), ("row 1: score is inf, expected a number",)),
    "no such pair label": (
        put(PAIRS, "sentence1,sentence2,labels\na,b,1\na,b,2\n"),
        ("row 2: labels is 2, expected 0 or 1",),
    ),
    "words and numbers as labels": (
        put("CEDRClassification/test.jsonl", '{"text": "a", "label": [1]}\n{"text": "b", "label": ["joy"]}\n'),
        ("row 2: label is 'joy', a str, but an earlier row has a int",),
    ),
    "a number for a text": (
        put(CORPUS, '{"id": "d1", "text": 7}\n'),
        ("corpus.jsonl, row 1: text is 7, expected text",),
    ),
    "a number for a title": (
        put(CORPUS, '{"id": "d1", "title": 7, "text": "a"}\n'),
        ("corpus.jsonl, row 1: title is 7, expected text",),
    ),
    "a document without text and title": (
        put(CORPUS, '{"id": "d1", "title": "", "text": ""}\n'),
        ("corpus.jsonl, row 1: text is '', expected text",),
    ),
    "half a character in a turn": (
        put(CORPUS, '{"id": "d1", "text": [{"role": "user", "content": "\\udc00"}]}\n'),
        ("row 1: text holds half of",),
    ),
    "a turn without content": (put(CORPUS, '{"id": "d1", "text": ["a"]}\n'), ("row 1: text has the turn 'a'",)),
    "an id with a point": (put(CORPUS, '{"id": 1.0, "text": "a"}\n'), ("row 1: id is 1.0, expected a whole number",)),
    "an id with a tab": (put(CORPUS, '{"id": "a\\tb", "text": "a"}\n'), ("row 1: id is 'a\\tb', expected",)),
    "null as id": (put(CORPUS, '{"id": null, "text": "a"}\n'), ("row 1: needs id and text",)),
    "a field twice": (
        put(CORPUS, '{"id": "d1", "text": "a", "text": "b"}\n'),
        ("line 1: is not JSON", "'text' occurs twice"),
    ),
    "no whole number": (put("SciFact/qrels.tsv", "q0\td1\t--1\n"), ("qrels.tsv, line 1: expected query id",)),
    "two relevances": (put("SciFact/qrels.tsv", "q0\td1\t1\nq0\td1\t0\n"), ("line 2: gives document 'd1' for query",)),
    "a ranked document that is not there": (
        put("AskUbuntuDupQuestions/ranked.jsonl", '{"query-id": "q0", "corpus-ids": ["d1", "nowhere"]}\n'),
        ("ranked.jsonl, row 1: document 'nowhere' is not in corpus.jsonl",),
    ),
    "a query ranked twice": (
        put("AskUbuntuDupQuestions/ranked.jsonl", '{"query-id": "q0", "corpus-ids": ["d1"]}\n' * 2),
        ("ranked.jsonl, row 2: query q0 also occurs",),
    ),
    "no id": (put("SciFact/corpus.jsonl", '{"text": "a"}\n'), ("row 1: needs id and text, has text",)),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_folders_are_refused_with_the_reason(mine, tmp_path, case):
    change, words = WRONG[case]
    change(mine)
    with pytest.raises(InputError) as caught:
        data.run(stock_task_data.airgapped(mine), tmp_path / "data")
    for word in words:
        assert word in str(caught.value), str(caught.value)
    assert not (tmp_path / "data").exists()


def test_missing_folders(folder, tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        data.run(stock_task_data.airgapped(tmp_path / "nowhere"), tmp_path / "data")
    (tmp_path / "bare").mkdir()
    with pytest.raises(InputError, match="has no sub-folder"):
        data.run(stock_task_data.airgapped(tmp_path / "bare"), tmp_path / "data")
    with pytest.raises(InputError, match=r"is missing, but suite\.tasks names SICK-R"):
        data.run(stock_task_data.airgapped(folder, ("SICK-R",)), tmp_path / "data")
    with pytest.raises(InputError, match=r"suite\.tasks: SICK_R is not a task of mteb .* SICK-R"):
        data.run(stock_task_data.airgapped(folder, ("SICK_R",)), tmp_path / "data")
