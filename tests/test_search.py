"""The recipe search: what it accepts, which points it calls best, and a whole run on the real default model."""

import json

import pytest
from embed_foundry.errors import InputError

from stages import data
from stages.commands import search

POINTS = {
    "exact and slow": {"cosine_mean": 1.0, "speedup": 1.0, "size_mb": 90.0},
    "fast": {"cosine_mean": 0.99, "speedup": 4.0, "size_mb": 23.0},
    "beaten": {"cosine_mean": 0.99, "speedup": 3.0, "size_mb": 23.0},
    "small": {"cosine_mean": 0.95, "speedup": 2.0, "size_mb": 12.0},
    "beaten everywhere": {"cosine_mean": 0.9, "speedup": 1.5, "size_mb": 95.0},
}


def test_front_keeps_what_nothing_else_beats():
    assert search.front(POINTS) == {"exact and slow", "fast", "small"}
    assert search.front({"a": POINTS["fast"], "b": dict(POINTS["fast"])}) == {"a", "b"}, "equals do not beat each other"


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"of": "onnx_int9"}, "expected one of"),
        ({}, "expected one of"),
        ({"of": "onnx_q8", "quantize": {"weights": {"bits": 5, "block_size": 32}}}, "weights.bits"),
        ({"of": "onnx_q8", "opset": "20"}, "opset"),
        ({"of": "onnx_q8", "speed": 11}, "speed"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_by_name(root, monkeypatch, recipe, words):
    monkeypatch.chdir(root)
    with pytest.raises(InputError, match=words) as caught:
        search.recipe_of("mine", recipe)
    assert "recipe mine" in str(caught.value)


@pytest.mark.parametrize("text", ["", "recipes: {}", "lengths: [8]\nrounds: 3\nrecipes: {a: {of: x}}", "a: [", "\x00"])
def test_a_file_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(InputError, match=r"s\.yaml: not a search file"):
        search.read(tmp_path / "s.yaml")


def test_changes_reach_the_depth_they_name(root, monkeypatch):
    monkeypatch.chdir(root)
    recipe = search.recipe_of("mine", {"of": "onnx_q8", "quantize": {"weights": {"bits": 8, "block_size": 64}}})
    assert (recipe.quantize.weights.block_size, recipe.quantize.embedding.block_size) == (64, 32)


def test_a_search_converts_measures_and_keeps(root, monkeypatch, params, base, tmp_path):
    monkeypatch.chdir(root)
    data.run(params.suite, tmp_path / "data")
    (tmp_path / "s.yaml").write_text(
        "lengths: [8]\nrounds: 6\nrecipes:\n  same: {of: onnx_q8}\n"
        "  coarse: {of: onnx_q8, quantize: {weights: {bits: 8, block_size: 256}}}\n"
    )
    quick = params.model_copy(update={"latency": params.latency.model_copy(update={"extra_s": 0})})
    arguments = (tmp_path / "s.yaml", quick, base, tmp_path / "data", tmp_path / "out")
    text = search.run(*arguments)
    assert "same" in text
    assert "coarse" in text
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert found["points"]["same"]["cosine_mean"] > found["points"]["coarse"]["cosine_mean"] > 0.99
    assert "same" in found["front"]
    assert (tmp_path / "out" / "pareto.png").stat().st_size > 5000
    kept = tmp_path / "out" / "variants" / "coarse" / "manifest.json"
    before = kept.stat().st_mtime_ns
    search.run(*arguments)
    assert kept.stat().st_mtime_ns == before, "what did not change is not converted again"
