"""Static variants: a table fitted to the model's vectors of whole texts ranks texts that it never saw better."""

import numpy as np
import pytest
from embed_foundry import open_variant
from scipy.stats import spearmanr

from stages import convert
from stages.common import corpus
from stages.convert import ridge


def alike(encode, texts) -> np.ndarray:
    """Return the similarities of all pairs of different texts: [n (n - 1) / 2]."""
    vectors = encode(texts)
    return (vectors @ vectors.T)[np.triu_indices(len(texts), 1)]


def test_a_fitted_table_ranks_unseen_texts_more_like_the_model(params, recipes, base, converted, tmp_path):
    recipe = recipes["static"]
    convert.run("bare", recipe.model_copy(update={"fit": None}), params.model, base, tmp_path / "bare")
    seen = set(corpus.texts(None, recipe.fit.texts))
    unseen = [text for text in corpus.texts(None, 3 * recipe.fit.texts) if text not in seen][:150]
    model = alike(open_variant(converted("fp32")).encode, unseen)
    fitted, bare = (
        spearmanr(model, alike(open_variant(folder).encode, unseen))[0]
        for folder in (converted("static"), tmp_path / "bare")
    )
    assert fitted > bare + 0.02


def test_the_fit_is_the_least_squares_solution():
    """Against the normal equations, solved directly; without a penalty's pull, a table that fits is found again."""
    rng = np.random.default_rng(0)
    table, true = rng.standard_normal((2, 12, 4))
    tokens = [rng.integers(0, 12, rng.integers(1, 6)).tolist() for _ in range(200)]
    means = np.stack([true[row].mean(axis=0) for row in tokens])
    targets = means / np.linalg.norm(means, axis=1, keepdims=True)
    found = ridge.fitted(table, tokens, targets, 1e-3)
    means = np.stack([found[row].mean(axis=0) for row in tokens])
    cosines = (means * targets).sum(axis=1) / np.linalg.norm(means, axis=1)
    before = np.stack([table[row].mean(axis=0) for row in tokens])
    assert cosines.mean() > 0.95 > 0.5 > ((before * targets).sum(axis=1) / np.linalg.norm(before, axis=1)).mean()
    held = ridge.fitted(table, tokens, targets, 1e9)
    assert held == pytest.approx(table, abs=1e-5)


def test_directions_are_principal_and_signed_alike():
    rows = np.random.default_rng(1).standard_normal((500, 6)) * [1, 9, 2, 7, 3, 5]
    found = ridge.directions(rows, 3)
    assert [int(np.abs(column).argmax()) for column in found.T] == [1, 3, 5]
    assert (found[np.abs(found).argmax(axis=0), range(3)] > 0).all()
    assert ridge.directions(-rows, 3) == pytest.approx(found)
