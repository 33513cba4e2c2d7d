"""The recipe search: what it accepts, which points it calls best, and a whole run on the real default model."""

import json

import pytest
from embed_foundry.errors import InputError

from stages import convert
from stages.commands import search
from stages.commands.search.points import Point, SearchResults, find_front
from stages.commands.search.recipes import build_recipe, load_search
from stages.commands.search.rendering import plot_front, render_table
from stages.common.records.base import Failure
from stages.common.records.latency import Quota


def make_point(cosine_mean: float | None, speedup: float, size_mb: float) -> Point:
    return Point(
        size_mb=size_mb,
        speedup=speedup,
        speedups={8: speedup},
        cold_start_s=1.0,
        peak_rss_mb=300.0,
        cosine_mean=cosine_mean,
        batch_shift_max=0.0,
    )


POINTS = {
    "exact and slow": make_point(1.0, 1.0, 90.0),
    "fast": make_point(0.99, 4.0, 23.0),
    "beaten": make_point(0.99, 3.0, 23.0),
    "small": make_point(0.95, 2.0, 12.0),
    "beaten everywhere": make_point(0.9, 1.5, 95.0),
}


def test_front_keeps_what_nothing_else_beats():
    assert find_front(POINTS | {"failed": Failure(error="out of memory")}) == {"exact and slow", "fast", "small"}
    twins = {"a": POINTS["fast"], "b": make_point(0.99, 4.0, 23.0)}
    assert find_front(twins) == {"a", "b"}, "equals do not beat each other"


def test_a_vector_space_of_its_own_has_no_cosine_and_can_win_by_speed_or_size_only(tmp_path):
    points = POINTS | {"own and fastest": make_point(None, 60.0, 30.0), "own and beaten": make_point(None, 1.0, 99.0)}
    front = find_front(points)
    assert front == {"exact and slow", "fast", "small", "own and fastest"}
    results = SearchResults(points=points, front=sorted(front), quota=Quota(cpus=None, enforced=False))
    assert "cosine_mean" not in json.loads(results.dump())["points"]["own and fastest"]
    assert "| **own and fastest** | 30 | - | - | - | 0.0000 | 60.00x |" in render_table(points, front, [8])
    (tmp_path / "pareto.png").write_bytes(plot_front(points, front))


def test_a_recipe_that_failed_says_why_in_the_table():
    table = render_table({"failed": Failure(error="out of memory")}, set(), [8])
    assert table.splitlines()[-1] == "| failed | out of memory | | | | | |"


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
    with pytest.raises(InputError, match=words) as error:
        build_recipe("mine", recipe)
    assert "recipe mine" in str(error.value)


@pytest.mark.parametrize("text", ["", "recipes: {}", "lengths: [8]\nrounds: 3\nrecipes: {a: {of: x}}", "a: [", "\x00"])
def test_a_file_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(InputError, match=r"s\.yaml: not a search file"):
        load_search(tmp_path / "s.yaml")


def test_changes_reach_the_depth_they_name(root, monkeypatch):
    monkeypatch.chdir(root)
    recipe = build_recipe("mine", {"of": "onnx_q8", "quantize": {"weights": {"bits": 8, "block_size": 64}}})
    assert (recipe.quantize.weights.block_size, recipe.quantize.embedding.block_size) == (64, 32)


def test_a_search_converts_measures_and_keeps(root, monkeypatch, params, base, small_suite, conversion_cache, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").symlink_to(root / "conf")
    monkeypatch.setattr(convert, "CACHE", conversion_cache)
    (tmp_path / "s.yaml").write_text(
        "lengths: [8]\nrounds: 6\nrecipes:\n  same: {of: onnx_q8}\n"
        "  coarse: {of: onnx_q8, quantize: {weights: {bits: 8, block_size: 256}}}\n"
    )
    small = {"budget_s": 60, "batch_size": 2, "batch_length": 8, "cold_starts": 1}
    quick = params.model_copy(update={"latency": params.latency.model_copy(update=small)})
    arguments = (tmp_path / "s.yaml", quick, base, small_suite, tmp_path / "out")
    text = search.run(*arguments)
    assert "same" in text
    assert "coarse" in text
    results = SearchResults.load(tmp_path / "out" / "results.json")
    assert results.points["same"].cosine_mean > results.points["coarse"].cosine_mean > 0.99
    assert "same" in results.front
    assert (tmp_path / "out" / "pareto.png").stat().st_size > 5000
    kept = tmp_path / "out" / "variants" / "coarse" / "manifest.json"
    before = kept.stat().st_mtime_ns
    search.run(*arguments)
    assert kept.stat().st_mtime_ns == before, "what did not change is not converted again"
