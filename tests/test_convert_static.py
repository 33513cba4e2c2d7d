"""Static variants: a table fitted to the model's vectors of whole texts ranks texts that it never saw better."""

import json
import shutil
import warnings

import numpy as np
import pytest
from embed_foundry import TruncationWarning, manifest, open_variant
from embed_foundry.encoders.static import CACHED_WORDS, TokenCache
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from stages import convert
from stages.common.config.variant import StaticVocabulary
from stages.common.sources import probe_texts
from stages.convert import base_vectors, ridge
from stages.convert.base_vectors import BaseModelVectors
from stages.convert.tokenizer import load_tokenizer

SMALL = {"dimensions": 32, "vocabulary": StaticVocabulary(tokens=4000, scripts=None)}


def pairwise_similarities(encode, texts) -> np.ndarray:
    """Return the similarities of all pairs of different texts: [n (n - 1) / 2]."""
    vectors = encode(texts)
    return (vectors @ vectors.T)[np.triu_indices(len(texts), 1)]


def test_a_fitted_table_ranks_unseen_texts_more_like_the_model(
    params, recipes, base, converted, conversion_cache, sentences, tmp_path
):
    recipe = recipes["static"]
    convert.run(
        "bare", recipe.model_copy(update={"fit": None}), params.model, base, tmp_path / "bare", cache=conversion_cache
    )
    fitted = converted("static")
    (texts,) = conversion_cache.glob("texts-*/texts.json")
    fitted_texts = set(json.loads(texts.read_text(encoding="utf-8")))
    assert len(fitted_texts) == recipe.fit.texts
    unseen = [text for text in sentences if text not in fitted_texts][:150]
    model = pairwise_similarities(open_variant(converted("fp32")).encode, unseen)
    by_fitted, by_bare = (
        spearmanr(model, pairwise_similarities(open_variant(folder).encode, unseen))[0]
        for folder in (fitted, tmp_path / "bare")
    )
    assert by_fitted > by_bare + 0.02


def test_the_fit_is_the_least_squares_solution():
    """Against the normal equations, solved directly; without a penalty's pull, a table that fits is found again."""
    rng = np.random.default_rng(0)
    table, true = rng.standard_normal((2, 12, 4))
    tokens = [rng.integers(0, 12, rng.integers(1, 6)).tolist() for _ in range(200)]
    means = np.stack([true[row].mean(axis=0) for row in tokens])
    targets = means / np.linalg.norm(means, axis=1, keepdims=True)
    fitted = ridge.fit_table(table, tokens, targets, 1e-3)
    means = np.stack([fitted[row].mean(axis=0) for row in tokens])
    cosines = (means * targets).sum(axis=1) / np.linalg.norm(means, axis=1)
    before = np.stack([table[row].mean(axis=0) for row in tokens])
    assert cosines.mean() > 0.95 > 0.5 > ((before * targets).sum(axis=1) / np.linalg.norm(before, axis=1)).mean()
    held = ridge.fit_table(table, tokens, targets, 1e9)
    assert held == pytest.approx(table, abs=1e-5)


def test_directions_are_principal_and_signed_alike():
    rows = np.random.default_rng(1).standard_normal((500, 6)) * [1, 9, 2, 7, 3, 5]
    directions = ridge.find_principal_directions(rows, 3)
    assert [int(np.abs(column).argmax()) for column in directions.T] == [1, 3, 5]
    assert (directions[np.abs(directions).argmax(axis=0), range(3)] > 0).all()
    assert ridge.find_principal_directions(-rows, 3) == pytest.approx(directions)


@pytest.mark.parametrize(("precision", "difference"), [("f32", 1e-6), ("bf16", 1e-2)])
def test_a_tokens_row_is_what_the_model_makes_of_it_through_its_heads(
    gemma, cache_with_graph, monkeypatch, precision, difference
):
    monkeypatch.setattr(base_vectors, "PRECISION", precision)
    words = ["cat", "house", "7", "?"]
    model = SentenceTransformer(str(gemma), device="cpu")
    special = load_tokenizer(gemma, cache_with_graph).read_special_ids()
    rows = [special.wrap([token]) for token in model.tokenizer.convert_tokens_to_ids(words)]
    vectors = BaseModelVectors(gemma, cache_with_graph).encode(rows, "words")
    assert vectors.shape == (4, 48)
    np.testing.assert_allclose(vectors, model.encode(words), atol=difference)


def test_the_models_vectors_are_computed_once_and_again_if_they_changed(gemma, cache_with_graph):
    """A row's vector does not depend on the others in its batch."""
    encoder = BaseModelVectors(gemma, cache_with_graph)
    rows = load_tokenizer(gemma, cache_with_graph).tokenize(probe_texts.read_texts(), 256)
    vectors = encoder.encode(rows, "texts")
    (file,) = cache_with_graph.glob("base_vectors-*/vectors.npy")
    first = file.stat().st_ino
    np.testing.assert_array_equal(encoder.encode(rows, "texts"), vectors)
    assert file.stat().st_ino == first
    file.write_bytes(file.read_bytes()[:-4] + bytes(4))
    np.testing.assert_array_equal(encoder.encode(rows, "texts"), vectors)
    assert file.stat().st_ino != first
    for number in (0, 7, 49):
        alone = encoder.encode([rows[number]], "text")
        np.testing.assert_allclose(alone, vectors[[number]], atol=1e-6)


def test_a_model_with_heads_and_prompts_gives_the_same_bytes_twice(
    gemma, cache_with_graph, params, recipes, sentences, tmp_path
):
    """From the same graph, whose bytes test_convert_graph.py compares."""
    changes = {"name": "gemma", "dimensions": 48, "matryoshka": [48, 16], "prompts": {"query": "query: "}}
    model = params.model.model_copy(update=changes)
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": text}) + "\n" for text in sentences[:200]), encoding="utf-8")
    fit = recipes["static"].fit.model_copy(update={"file": str(texts), "texts": 100})
    recipe = recipes["static"].model_copy(update=SMALL | {"fit": fit})
    for place in ("one", "two"):
        folder = tmp_path / place
        shutil.copytree(cache_with_graph, folder / "cache")
        convert.run("static", recipe, model, gemma, folder / "static", cache=folder / "cache")
    first, second = (manifest.read(tmp_path / place / "static").files for place in ("one", "two"))
    assert first == second
    encoder = open_variant(tmp_path / "one" / "static")
    assert encoder.table.shape == (4001, 32)
    whole = load_tokenizer(gemma, tmp_path / "one" / "cache").open()
    texts = probe_texts.read_texts()
    longer = [text for text in texts if encoder.count_tokens([text])[0] > len(whole.encode(text).ids)]
    assert longer, "fewer tokens than the model's cut words into more pieces"
    long = " ".join(longer) * 20
    text = whole.decode(whole.encode(long).ids[1 : model.max_tokens - 1])
    assert encoder.count_tokens([text])[0] > model.max_tokens
    with warnings.catch_warnings():
        warnings.simplefilter("error", TruncationWarning)  # the model sees all of it, so the table does, too
        encoder.encode([text])
    np.testing.assert_array_equal(encoder.encode(["a cat"], prompt="query"), encoder.encode(["a cat"]))


def test_words_are_remembered_and_forgotten_without_a_change(converted):
    """A text has the tokens of its words, remembered or not; a full memory starts again; long words are not kept."""
    encoder = open_variant(converted("static"))
    whole = Tokenizer.from_file(str(converted("static") / "tokenizer.json"))
    for text in [*probe_texts.read_texts(), "", " ", "a  b\tc\n\nd ", "x" * 90, "ok\x1cok \u2028 e\u0301"] * 2:
        ids = whole.encode(text, add_special_tokens=False).ids
        assert encoder.count_tokens([text]) == [len(ids)]
        assert encoder._tokens(text) == ids
    words = TokenCache(whole)
    assert words["x" * 90] == tuple(whole.encode("x" * 90, add_special_tokens=False).ids)
    assert not words
    for number in range(CACHED_WORDS + 1):
        assert words[str(number)]
    assert len(words) == 1


def test_a_text_over_the_limit_is_truncated_with_a_warning_whatever_words_are_remembered(converted):
    encoder = open_variant(converted("static"), max_tokens=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = encoder.encode(["one two three"])
    with pytest.warns(TruncationWarning, match="exceed 3 tokens"):
        np.testing.assert_array_equal(encoder.encode(["one two three four"]), expected)
