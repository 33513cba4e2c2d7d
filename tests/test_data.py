"""data: the suite's files, made of installed packages only."""

import csv
import json

import pytest
from embed_foundry import InputError, manifest

from stages import data

SMALL = {"queries": 20, "corpus": 100, "services": 5, "languages": ["fr", "zh_Hans"]}


@pytest.fixture(scope="module")
def suite(params):
    return params.suite.model_copy(update=SMALL)


@pytest.fixture(scope="module")
def written(suite, tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "data"
    data.run(suite, out)
    return out


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_same_bytes_twice(suite, written, tmp_path):
    data.run(suite, tmp_path / "again")
    assert manifest.verify(tmp_path / "again").digest == manifest.verify(written).digest


def test_seed_changes_the_sample(suite, written, tmp_path):
    data.run(suite.model_copy(update={"seed": 1}), tmp_path / "other")
    name = "AwsOperationRetrieval/corpus.jsonl"
    assert manifest.read(tmp_path / "other").files[name] != manifest.read(written).files[name]


def test_records_name_source_and_version(written):
    records = json.loads((written / "tasks.json").read_text(encoding="utf-8"))
    assert {record["type"] for record in records} == {
        "Retrieval",
        "Classification",
        "Clustering",
        "BitextMining",
        "STS",
    }
    libraries = manifest.read(written).libraries
    for record in records:
        assert record["version"] == libraries[record["package"]]
        assert (written / record["name"]).is_dir()


def test_each_query_has_its_document_which_does_not_repeat_it(written):
    folder = written / "AwsOperationRetrieval"
    corpus = {row["id"]: row["text"] for row in lines(folder / "corpus.jsonl")}
    queries = {row["id"]: row["text"] for row in lines(folder / "queries.jsonl")}
    assert (len(corpus), len(queries)) == (100, 20)
    relevance = [line.split("\t") for line in (folder / "qrels.tsv").read_text(encoding="utf-8").splitlines()]
    assert {query for query, _, _ in relevance} == set(queries)
    assert all(queries[query] not in corpus[document] for query, document, _ in relevance)


def test_no_operation_is_in_two_places(written):
    train, test = (rows(written / "AwsServiceClassification" / f"{split}.csv") for split in ("train", "test"))
    documents = {row["text"] for row in lines(written / "AwsOperationRetrieval" / "corpus.jsonl")}
    assert not {row["text"] for row in train} & {row["text"] for row in test}
    assert not any(row["text"].endswith(document) for row in [*train, *test] for document in documents)
    assert {row["label"] for row in train} == {row["label"] for row in test}
    assert len({row["label"] for row in test}) == SMALL["services"]


def test_clustering_has_the_texts_of_classification(written):
    classified = rows(written / "AwsServiceClassification" / "test.csv")
    clustered = rows(written / "AwsServiceClustering" / "test.csv")
    assert [row["text"] for row in classified] == [row["sentences"] for row in clustered]


def test_messages_are_clean_and_paired_once(written):
    pairs = rows(written / "DjangoMessagesBitextMining" / "en-fr" / "test.csv")
    assert len(pairs) > 100
    assert {
        "sentence1": "A user with that username already exists.",
        "sentence2": "Un utilisateur avec ce nom existe déjà.",
    } in pairs
    for side in ("sentence1", "sentence2"):
        assert len({row[side] for row in pairs}) == len(pairs)
        assert not any(set(row[side]) & set("<>%{}") for row in pairs)


def test_similarity_is_complete(written):
    words, articles = (rows(written / name / "test.csv") for name in ("WordSim353STS", "LeeDocumentsSTS"))
    assert len(words) == 353
    assert {"sentence1": "tiger", "sentence2": "cat", "score": "7.35"} in words
    assert len(articles) == 50 * 49 // 2
    assert all(0 <= float(row["score"]) <= 1 for row in articles)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"corpus": 10**6}, "corpus"),
        ({"queries": 101}, "queries"),
        ({"services": 400}, "services"),
        ({"languages": ["xx"]}, "xx"),
    ],
)
def test_more_than_the_packages_hold_is_refused(suite, change, named, tmp_path):
    with pytest.raises(InputError, match=named):
        data.run(suite.model_copy(update=change), tmp_path / "data")
    assert not (tmp_path / "data").exists()
