"""Texts to learn from: what the packages carry, none of it evaluated; a user's file, or what is wrong with it."""

import functools
import json

import pytest
from embed_foundry import InputError

from stages.common.sources import aws, corpus


def test_texts_are_sentences_of_two_sources_and_the_same_each_time(sentences, monkeypatch):
    monkeypatch.setattr(aws, "load_parameter_texts", functools.cache(aws.load_parameter_texts))
    assert len(set(sentences)) == len(sentences) == 3000
    assert corpus.sample_texts(None, 3000) == sentences
    documented = {
        sentence for text in aws.load_parameter_texts() for sentence in aws.SENTENCE_END.split(" ".join(text.split()))
    }
    share = sum(text in documented for text in sentences) / len(sentences)
    assert 0.3 < share < 0.4


def test_no_text_is_a_sentence_that_the_default_suite_asks_about(sentences):
    evaluated = {
        sentence
        for operation in aws.load_operations()
        for sentence in aws.SENTENCE_END.split(f"{operation.summary} {operation.details}")
    }
    assert not evaluated & set(sentences)


def test_a_users_file(tmp_path):
    path = tmp_path / "mine.jsonl"
    mine = [f"This is sentence number {number} of mine." for number in range(9)]
    path.write_text("".join(json.dumps({"text": f"{sentence} "}) + "\n" for sentence in mine))
    assert sorted(corpus.sample_texts(path, 100)) == mine
    assert len(corpus.sample_texts(path, 3)) == 3


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("none.jsonl", None, "no such file of texts"),
        ("mine.rst", "text", "expected a folder or one of"),
        ("mine.csv", "sentence\nOne.\n", "expected one named text"),
        ("mine.jsonl", '{"text": "short"}\n', "no sentence"),
    ],
)
def test_a_wrong_users_file_is_refused(tmp_path, name, content, why):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=why):
        corpus.sample_texts(tmp_path / name, 10)
