"""finetune: examples are checked, split by group, and never what the suite or a later split measures."""

import json

import pytest
from embed_foundry import InputError

from stages import data
from stages.common.config.finetune import ExampleSource
from stages.common.sources import aws
from stages.finetune import triplets
from stages.finetune.triplets import SPLITS, Triplet, plain

SMALL = {"queries": 50, "corpus": 1000, "services": 5, "languages": ["fr"]}


def config(source="triplets", **changes):
    known = {"source": source, "path": None if source == "aws" else "set", "llm": None, "dev": 0.2, "held_out": 0.2}
    return ExampleSource(**known | {"examples": 0} | changes)


def rows(count, start=0):
    return [{"anchor": f"Who wrote book {at}?", "positive": f"Author {at} did."} for at in range(start, start + count)]


def write(path, found):
    path.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
    return path


def read(path, suite=None, **changes):
    return triplets.splits(config(path=str(path), **changes), 0, suite or path.parent / "no-suite")


def test_aws_examples_are_split_by_service_and_none_is_in_the_suite(params, tmp_path):
    """No service is on two sides, no trained text is in a later split, and no text of train or dev is in the suite."""
    data.run(params.suite.model_copy(update=SMALL), tmp_path / "data")
    found = triplets.splits(config("aws", dev=0.05), 0, tmp_path / "data")
    services = {name: {one.group for one in getattr(found, name)} for name in SPLITS}
    assert not services["train"] & services["dev"]
    assert not (services["train"] | services["dev"]) & services["held_out"]
    assert found.dropped["train: in the suite"] > 100, "a leak could have happened"
    asked = {name: {text for one in getattr(found, name) for text in one.asked} for name in SPLITS}
    assert not asked["train"] & (asked["dev"] | asked["held_out"])
    assert not asked["dev"] & asked["held_out"]
    measured = [plain(text) for text in triplets.suite_texts(tmp_path / "data")]
    trained = asked["train"] | asked["dev"]
    assert not trained & set(measured)
    beginnings = {text[: aws.QUERY_MIN]: text for text in trained}  # a description begins with the first sentence
    leaks = [text for text in measured if text.startswith(beginnings.get(text[: aws.QUERY_MIN], "\n"))]
    assert leaks == []
    assert len(found.held_out) > 500


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_files_of_every_format_give_the_same_examples(form, tmp_path):
    from datasets import Dataset

    found = [row | {"negative": "No one.", "negative_2": "Nobody."} for row in rows(40)]
    table = Dataset.from_list(found)
    path = tmp_path / f"mine.{form}"
    {"jsonl": table.to_json, "csv": table.to_csv, "parquet": table.to_parquet}[form](str(path))
    split = read(path)
    everything = [one for name in SPLITS for one in getattr(split, name)]
    assert {one.anchor for one in everything} == {row["anchor"] for row in found}
    assert {one.negatives for one in everything} == {("No one.", "Nobody.")}
    assert list(triplets.columns(split.train)) == ["anchor", "positive", "negative_1", "negative_2"]


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ([{"anchor": " ", "positive": "x"}], r"row 41: anchor is ' '"),
        ([{"anchor": "x", "positive": None}], "row 41: positive is None"),
        ([{"anchor": "who wrote  BOOK 3?", "positive": "author 3 did."}], "row 41: repeats row 4"),
        ([{"anchor": "Same", "positive": "same "}], "row 41: the positive is also the anchor"),
    ],
)
def test_a_broken_row_is_named(broken, words, tmp_path):
    path = write(tmp_path / "mine.jsonl", rows(40) + broken)
    with pytest.raises(InputError, match=words):
        read(path)


def test_missing_columns_files_and_too_few_examples_are_told(tmp_path):
    with pytest.raises(InputError, match="no column positive"):
        read(write(tmp_path / "a.jsonl", [{"anchor": "x"}]))
    with pytest.raises(InputError, match="neither a file nor a folder"):
        read(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no train\.csv"):
        read(tmp_path)
    with pytest.raises(InputError, match="expected one of"):
        read(write(tmp_path / "a.txt", []))
    with pytest.raises(InputError, match="examples in train, expected at least 16"):
        read(write(tmp_path / "few.jsonl", rows(20)))
    write(tmp_path / "train.jsonl", rows(20))
    write(tmp_path / "dev.jsonl", rows(20, 20))
    with pytest.raises(InputError, match="give train alone, or train, dev, held_out"):
        read(tmp_path)


def test_a_leak_between_files_is_refused(tmp_path):
    write(tmp_path / "train.jsonl", rows(40))
    write(tmp_path / "dev.jsonl", rows(10, 40))
    write(tmp_path / "held_out.jsonl", [*rows(10, 50), rows(1, 7)[0]])
    with pytest.raises(InputError, match=r"train\.jsonl, row 8: .*held_out\.jsonl"):
        read(tmp_path)


def test_examples_that_share_a_text_stay_together(tmp_path):
    pairs = [{"anchor": f"question {at}", "positive": f"answer {at // 4}"} for at in range(120)]
    found = read(write(tmp_path / "mine.jsonl", pairs))
    answers = {name: {one.positive for one in getattr(found, name)} for name in SPLITS}
    assert not answers["train"] & (answers["dev"] | answers["held_out"])
    assert sum(len(getattr(found, name)) for name in SPLITS) == 120


def test_what_the_suite_measures_is_not_trained_on(tmp_path):
    """Neither a text of the suite, nor one that stands inside a longer text of it, in whatever case and spacing."""
    (tmp_path / "suite" / "Task").mkdir(parents=True)
    write(
        tmp_path / "suite" / "Task" / "corpus.jsonl",
        [
            {"id": "1", "text": "author  3 DID."},
            {"id": "2", "text": "It says: who is the writer of the book 5? No one."},
        ],
    )
    mine = [{"anchor": f"Who is the writer of the book {at}?", "positive": f"Author {at} did."} for at in range(60)]
    found = read(write(tmp_path / "mine.jsonl", mine), tmp_path / "suite")
    trained = {one.positive for one in [*found.train, *found.dev]}
    assert not trained & {"Author 3 did.", "Author 5 did."}
    assert sum(found.dropped.values()) + sum(len(getattr(found, name)) for name in SPLITS) == 60


def test_split_follows_from_the_seed(tmp_path):
    path = write(tmp_path / "mine.jsonl", rows(60))
    assert read(path) == read(path)
    other = triplets.splits(config(path=str(path)), 1, tmp_path / "no-suite")
    assert other != read(path)


def test_examples_without_negatives_make_two_columns():
    assert list(triplets.columns([Triplet("a", "b", ("c",)), Triplet("d", "e")])) == ["anchor", "positive"]
