"""finetune: examples are validated, split by group, and never what the suite or a later split measures."""

import json

import pytest
from embed_foundry import InputError

from stages import data
from stages.common.config.finetune import ExampleSource
from stages.common.contract.tables import write_csv, write_json_lines
from stages.common.sources import aws
from stages.common.sources.suite_files import read_texts
from stages.finetune.contrast import build_columns
from stages.finetune.splits import SPLITS, split_examples
from stages.finetune.triplets import Triplet, count_long_texts, normalize_text
from support import tiny_model

SMALL = {"queries": 50, "corpus": 1000, "services": 5, "languages": ["fr"]}


def config(source="triplets", **changes):
    settings = {"source": source, "path": None if source == "aws" else "set", "llm": None, "dev": 0.2, "held_out": 0.2}
    return ExampleSource(**settings | {"examples": 0} | changes)


def rows(count, start=0):
    numbers = range(start, start + count)
    return [{"anchor": f"Who wrote book {number}?", "positive": f"Author {number} did."} for number in numbers]


def write(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def read(path, suite=None, **changes):
    return split_examples(config(path=str(path), **changes), 0, suite or path.parent / "no-suite")


def test_aws_examples_are_split_by_service_and_none_is_in_the_suite(params, tmp_path):
    """No service is on two sides, no trained text is in a later split, and no text of train or dev is in the suite."""
    data.run(params.suite.model_copy(update=SMALL), tmp_path / "data")
    splits = split_examples(config("aws", dev=0.05), 0, tmp_path / "data")
    services = {name: {triplet.group for triplet in triplets} for name, triplets in splits.parts.items()}
    assert not services["train"] & services["dev"]
    assert not (services["train"] | services["dev"]) & services["held_out"]
    assert splits.dropped["train: in the suite"] > 100, "a leak could have happened"
    texts = {name: {text for triplet in triplets for text in triplet.key} for name, triplets in splits.parts.items()}
    assert not texts["train"] & (texts["dev"] | texts["held_out"])
    assert not texts["dev"] & texts["held_out"]
    measured = [normalize_text(text) for text in read_texts(tmp_path / "data")]
    trained = texts["train"] | texts["dev"]
    assert not trained & set(measured)
    beginnings = {text[: aws.QUERY_MIN]: text for text in trained}  # a description begins with the first sentence
    leaks = [text for text in measured if text.startswith(beginnings.get(text[: aws.QUERY_MIN], "\n"))]
    assert leaks == []
    assert len(splits.held_out) > 500


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_files_of_every_format_give_the_same_examples(form, tmp_path):
    from datasets import Dataset

    examples = [row | {"negative": "No one.", "negative_2": "Nobody."} for row in rows(40)]
    table = Dataset.from_list(examples)
    path = tmp_path / f"mine.{form}"
    {"jsonl": table.to_json, "csv": table.to_csv, "parquet": table.to_parquet}[form](str(path))
    splits = read(path)
    triplets = [triplet for name in SPLITS for triplet in splits.parts[name]]
    assert {triplet.anchor for triplet in triplets} == {row["anchor"] for row in examples}
    assert {triplet.negatives for triplet in triplets} == {("No one.", "Nobody.")}
    assert list(build_columns(splits.train)) == ["anchor", "positive", "negative_1", "negative_2", "label"]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ([{"anchor": " ", "positive": "x"}], r"row 41: anchor is ' ', expected text"),
        ([{"anchor": "x", "positive": None}], "row 41: positive is None"),
        ([{"anchor": "who wrote  BOOK 3?", "positive": "author 3 did."}], "row 41: repeats row 4"),
        ([{"anchor": "Same", "positive": "same "}], "row 41: the positive is also the anchor"),
    ],
)
def test_a_broken_row_is_named(broken, message, tmp_path):
    path = write(tmp_path / "mine.jsonl", rows(40) + broken)
    with pytest.raises(InputError, match=message):
        read(path)


def test_missing_columns_missing_files_and_too_few_examples_are_refused(tmp_path):
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
    pairs = [{"anchor": f"question {number}", "positive": f"answer {number // 4}"} for number in range(120)]
    splits = read(write(tmp_path / "mine.jsonl", pairs))
    answers = {name: {triplet.positive for triplet in triplets} for name, triplets in splits.parts.items()}
    assert not answers["train"] & (answers["dev"] | answers["held_out"])
    assert sum(map(len, splits.parts.values())) == 120


def test_what_the_suite_measures_is_not_trained_on(tmp_path):
    """Neither a text of the suite, nor a part of a longer one, whatever its case and spacing."""
    (tmp_path / "suite" / "Task").mkdir(parents=True)
    write(
        tmp_path / "suite" / "Task" / "corpus.jsonl",
        [
            {"id": "1", "text": "author  3 DID."},
            {"id": "2", "text": "It says: who is the writer of the book 5? No one."},
        ],
    )
    pairs = [
        {"anchor": f"Who is the writer of the book {number}?", "positive": f"Author {number} did."}
        for number in range(60)
    ]
    splits = read(write(tmp_path / "mine.jsonl", pairs), tmp_path / "suite")
    trained = {triplet.positive for triplet in [*splits.train, *splits.dev]}
    assert not trained & {"Author 3 did.", "Author 5 did."}
    assert sum(splits.dropped.values()) + sum(map(len, splits.parts.values())) == 60


def test_suite_texts_include_the_turns_of_conversations(tmp_path):
    turns = [{"role": "user", "content": "How do I list my buckets?"}, {"role": "assistant", "content": "aws s3 ls"}]
    write_json_lines(tmp_path / "suite" / "Task" / "queries.jsonl", [{"id": "q", "text": turns}])
    assert {"How do I list my buckets?", "aws s3 ls"} <= set(read_texts(tmp_path / "suite"))


def test_suite_texts_may_be_longer_than_csv_fields_usually_are(tmp_path):
    long = "A suite's text. " * 10_000
    write_csv(tmp_path / "suite" / "Task" / "test.csv", ("text", "label"), [(long, "0")])
    assert list(read_texts(tmp_path / "suite")) == [long, "0"]


def test_the_seed_decides_the_split(tmp_path):
    path = write(tmp_path / "mine.jsonl", rows(60))
    assert read(path) == read(path)
    other = split_examples(config(path=str(path)), 1, tmp_path / "no-suite")
    assert other != read(path)


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_rows_keep_their_own_number_of_negatives(form, tmp_path):
    """Neither the first row nor the shortest decides for the others; absent is null, or an empty cell of CSV."""
    import pyarrow
    from pyarrow import csv, parquet

    negatives = [(None, None), ("No one.", None), ("No one.", "Nobody."), (None, "Nobody.")]
    table = [
        row | dict(zip(("negative", "negative_2"), negatives[number % 4], strict=True))
        for number, row in enumerate(rows(40))
    ]
    path = tmp_path / f"mine.{form}"
    if form == "jsonl":
        write(
            path, [{name: text for name, text in row.items() if text or number % 8} for number, row in enumerate(table)]
        )
    else:
        {"csv": csv.write_csv, "parquet": parquet.write_table}[form](pyarrow.Table.from_pylist(table), str(path))
    examples = {item.anchor: item.negatives for part in read(path).parts.values() for item in part}
    for row, expected in zip(table, negatives * 10, strict=True):
        assert examples[row["anchor"]] == tuple(filter(None, expected))


def test_a_list_of_negatives_is_as_good_as_columns(tmp_path):
    table = [row | {"negatives": ["No one.", "Nobody."][: number % 3]} for number, row in enumerate(rows(40))]
    examples = read(write(tmp_path / "mine.jsonl", table)).parts.values()
    assert sorted(len(item.negatives) for part in examples for item in part) == [0] * 14 + [1] * 13 + [2] * 13


BAD_TEXTS = {
    r'"half an emoji \ud83d"': r"holds half of a character \('\\ud83d' at 15",
    r'"one\u0000two"': "holds a NUL character at 4",
    '""': "is '', expected text",
    r'"\u200b\ufeff "': "is '.*', expected text",
    "7": "is 7, expected text",
    "NaN": "is nan, expected text",
    "true": "is True, expected text",
    "{}": "is {}, expected text",
    '["a", 1]': r"is (1|\['a', 1\]), expected text",
}


@pytest.mark.parametrize("column", ["anchor", "positive", "negative_2"])
@pytest.mark.parametrize("value", BAD_TEXTS)
def test_a_value_that_is_no_text_is_named_by_file_row_and_column(column, value, tmp_path):
    path = write(tmp_path / "mine.jsonl", rows(40))
    others = {"anchor": "x", "positive": "y", "negative_2": "z"}
    fields = [f'"{name}": {value if name == column else json.dumps(text)}' for name, text in others.items()]
    path.write_text(path.read_text() + "{" + ", ".join(fields) + "}\n")
    with pytest.raises(InputError, match=rf"mine\.jsonl, row 41: {column} {BAD_TEXTS[value]}"):
        read(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"anchor": "x", "anchor": "y", "positive": "z"}\n', r"a\.jsonl, line 1: .*'anchor' occurs twice"),
        ("a.jsonl", b'{"anchor": "x", "positive": ' + b"[" * 100_000, r"a\.jsonl, line 1: is not JSON"),
        ("a.jsonl", b'{"anchor": "x", "positive": ' + b"1" * 5000 + b"}", r"a\.jsonl, line 1: is not JSON"),
        ("a.csv", b"anchor,anchor\nx,y\n", r"a\.csv: has two columns 'anchor'"),
        ("a.csv", b"anchor,positive\nx,y\nx,y,z\n", r"a\.csv, row 2: has 3 fields, expected the header's 2"),
        ("a.csv", b"anchor,positive\nx\n", r"a\.csv, row 1: positive is None"),
        ("a.csv", b"anchor,positive\nx,y\0\n", r"a\.csv: byte 19 is zero, so it is UTF-16 without"),
        ("a.csv", b"", r"a\.csv: is empty"),
        ("a.csv", b"anchor,positive,negativ\nx,y,z\n", r"a\.csv: has a column 'negativ'"),
        ("a.csv", b"query,answer\nx,y\n", r"a\.csv: has no column anchor and positive, only query, answer"),
        ("a.parquet", b"PAR1", r"a\.parquet: is not a Parquet file"),
    ],
)
def test_a_malformed_file_is_named(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / name)


def test_parquet_text_that_is_not_utf8_is_named_by_row(tmp_path):
    import pyarrow
    from pyarrow import parquet

    bad = pyarrow.array([b"good", b"caf\xe9"]).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"anchor": bad, "positive": ["x", "y"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet, row 2: is not UTF-8"):
        read(tmp_path / "a.parquet")


def test_excel_s_byte_order_mark_is_not_part_of_a_column_s_name(tmp_path):
    lines = ["anchor,positive", *(f"{row['anchor']},{row['positive']}" for row in rows(40))]
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    assert sum(map(len, read(tmp_path / "a.csv").parts.values())) == 40


def test_a_negative_that_is_another_row_s_answer_is_refused(tmp_path):
    table = [*rows(40), {"anchor": "who wrote book 3?", "positive": "x", "negative": "author 3 DID."}]
    with pytest.raises(InputError, match=r"row 41: the negative 'author 3 DID\.' is the positive of row 4"):
        read(write(tmp_path / "mine.jsonl", table))


def test_what_the_limit_of_examples_leaves_out_is_counted(tmp_path):
    splits = read(write(tmp_path / "mine.jsonl", rows(60)), examples=20)
    assert len(splits.train) == 20
    assert splits.dropped == {"train: over data.examples": 60 - 20 - len(splits.dev) - len(splits.held_out)}


def test_long_texts_are_counted_by_the_tokenizer_of_a_model_from_before_2_0(tmp_path):
    contents = tiny_model.files()
    modules = json.loads(contents["modules.json"])
    modules[0]["path"] = "0_Transformer"
    transformer = {name: data for name, data in contents.items() if "/" not in name and name != "modules.json"}
    moved = {f"0_Transformer/{name}": data for name, data in transformer.items()}
    folder = tiny_model.write(tmp_path / "base", moved | {"modules.json": tiny_model.dump(modules)})
    triplets = [Triplet("one", "two", ("auto_map",)), Triplet("one", "three")]
    assert count_long_texts(triplets, folder, 1) == (0, 4)
    assert count_long_texts(triplets, folder, 0) == (4, 4)
