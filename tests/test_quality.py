"""quality: scores of real encoders on a small suite, the cell cache, and variants that are broken on purpose."""

import importlib.metadata
import json
import shutil

import numpy as np
import pytest
from embed_foundry import InputError, manifest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from stages import data, quality
from stages.quality import floor
from support.altered_copies import broken, changed, renamed

TASKS = 6
FEW = ("AwsOperationRetrieval", "WordSim353STS")


@pytest.fixture(scope="module")
def suite(params, tmp_path_factory):
    small = {"queries": 20, "corpus": 100, "services": 5, "languages": ["de", "fr"]}
    out = tmp_path_factory.mktemp("data") / "data"
    data.run(params.suite.model_copy(update=small), out)
    return out


@pytest.fixture(scope="module")
def few(suite, tmp_path_factory):
    """Return the suite's two quickest tasks: enough for what does not depend on a task's kind."""
    records = json.loads((suite / "tasks.json").read_text(encoding="utf-8"))
    kept = [record for record in records if record["name"] in FEW]
    return changed(suite, tmp_path_factory.mktemp("few") / "data", "tasks.json", json.dumps(kept))


@pytest.fixture(scope="module")
def static(converted):
    return converted("static")


@pytest.fixture
def measure(params, suite, tmp_path):
    """Return a function that measures variants into a new folder, by default with one cell cache for the test."""

    def run(variants, out="quality", *, dimensions=(384, 256, 128), folder=suite, cache="cache"):
        baseline = "static" if "static" in variants else next(iter(variants))
        return quality.run(params.quality, variants, baseline, dimensions, folder, tmp_path / out, 2, tmp_path / cache)

    return run


def test_same_bytes_twice_cold_and_from_cells(measure, static, tmp_path):
    measure({"static": static}, "first")
    measure({"static": static}, "cold", cache="other")
    measure({"static": static}, "kept")
    digests = {manifest.verify(tmp_path / out).digest for out in ("first", "cold", "kept")}
    assert len(digests) == 1


def test_every_task_is_scored_at_full_length_and_below(measure, static):
    found = measure({"static": static})["static"]
    assert set(found) == {"256", "128"}  # the static table's own full length, not the model's 384
    for scores in found.values():
        assert len(scores) == TASKS
        assert all(np.isfinite(score["main_score"]) and score["samples"] > 0 for score in scores.values())
    assert set(found["256"]["DjangoMessagesBitextMining"]["subsets"]) == {"en-de", "en-fr"}


def test_samples_average_to_the_score(measure, static, tmp_path):
    scores = measure({"static": static})["static"]["256"]
    drawn = json.loads((tmp_path / "quality/samples/static.json").read_text(encoding="utf-8"))["256"]
    for task, name in (("AwsOperationRetrieval", "ndcg_at_10"), ("AwsServiceClassification", "accuracy")):
        assert np.mean(drawn[task]["default"][name]) == pytest.approx(scores[task]["main_score"], abs=1e-4)
    pairs = drawn["WordSim353STS"]["default"]
    assert len(pairs["cosine"]) == len(pairs["gold"]) == 353


def test_pairs_that_share_a_text_are_known(measure, static, tmp_path):
    measure({"static": static}, dimensions=[])
    drawn = json.loads((tmp_path / "quality/samples/static.json").read_text(encoding="utf-8"))["256"]["LeeDocumentsSTS"]
    pairs = drawn["default"]
    assert len({*pairs["left"], *pairs["right"]}) == 50
    assert len(set(zip(pairs["left"], pairs["right"], strict=True))) == len(pairs["cosine"]) == 1225


def test_the_floor_is_noise_and_a_real_model_is_above_it(measure, converted, tmp_path):
    scores = measure({"fp32": converted("fp32")}, dimensions=[])["fp32"]["384"]
    levels = json.loads((tmp_path / "quality/floor.json").read_text(encoding="utf-8"))
    assert set(levels) == set(scores)
    assert abs(levels["WordSim353STS"]) < 0.2, "random vectors know nothing of two different words"
    for task in ("AwsOperationRetrieval", "DjangoMessagesBitextMining", "WordSim353STS", "LeeDocumentsSTS"):
        assert levels[task] < scores[task]["main_score"]


def test_the_floor_weighs_frequent_tokens_down(static, suite, tmp_path):
    """By Arora's a / (a + p), p counted in the suite's texts: without it, noise would look weaker than it is."""
    floor.write(static, suite, tmp_path / "floor")
    weights = load_file(tmp_path / "floor" / "table.safetensors")["weights"]
    tokenizer = Tokenizer.from_file(str(tmp_path / "floor" / "tokenizer.json"))
    the, rare = (weights[tokenizer.token_to_id(word)] for word in ("the", "archipelago"))
    assert the < 0.1
    assert rare > 0.9


def test_the_floor_of_a_model_with_prompts_is_no_lower(measure, static, few, tmp_path):
    """Put before every text, EmbeddingGemma's made noise score 33.4 instead of 61.9 on STSBenchmark."""
    shutil.copytree(static, tmp_path / "prompted")
    record = json.loads((static / "variant.json").read_text(encoding="utf-8"))
    record |= {"prompts": {"STS": "task: sentence similarity | query: "}}
    (tmp_path / "prompted" / "variant.json").write_bytes(manifest.canonical(record))
    measure({"static": static}, "plain", dimensions=[], folder=few)
    measure({"static": renamed(tmp_path / "prompted")}, "with", dimensions=[], folder=few)
    plain, prompted = (
        json.loads((tmp_path / out / "floor.json").read_text(encoding="utf-8")) for out in ("plain", "with")
    )
    assert prompted == plain


def test_mixed_indexes_are_ranked_as_mteb_ranks(measure, static, few, tmp_path):
    """The diagonal is the task's own score; a permuted space cannot read another's index."""
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(256, 256)))[0].astype(np.float32)
    turned = broken(static, tmp_path / "turned", lambda table: table @ rotation)
    found = measure({"static": static, "turned": turned}, dimensions=[], folder=few)
    mixed = json.loads((tmp_path / "quality/compatibility.json").read_text(encoding="utf-8"))
    (pairs,) = mixed.values()
    for name in ("static", "turned"):
        score = found[name]["256"]["AwsOperationRetrieval"]["main_score"]
        assert pairs[name][name]["ndcg_at_10"] == pytest.approx(score, abs=2e-3)
        assert pairs[name][name]["overlap_at_10"] == 1.0
        assert pairs[name][name]["recall_at_10"] >= pairs[name][name]["ndcg_at_10"]
    assert pairs["static"]["turned"]["ndcg_at_10"] < 0.3
    assert pairs["turned"]["static"]["overlap_at_10"] < 0.3


def test_mteb_results_carry_no_clock(measure, static, few, tmp_path):
    measure({"static": static}, folder=few)
    result = json.loads((tmp_path / "quality/results/static/256/WordSim353STS.json").read_text(encoding="utf-8"))
    assert result["task_name"] == "WordSim353STS"
    assert not {"date", "evaluation_time", "evaluation_phases"} & set(result)


def test_rows_under_wrong_tokens_show_in_the_scores(measure, static, few, tmp_path):
    def permuted(table):
        filled = np.flatnonzero(np.abs(table).sum(axis=1))
        table[filled] = table[np.random.default_rng(0).permutation(filled)]
        return table

    found = measure({"static": static, "permuted": broken(static, tmp_path / "permuted", permuted)}, folder=few)
    right, wrong = (found[name]["256"]["WordSim353STS"]["main_score"] for name in ("static", "permuted"))
    assert right > 0.6
    assert wrong < 0.2


@pytest.mark.parametrize(
    ("value", "why"), [(np.nan, "not finite"), (0.0, "no length"), (1.0, "all alike")], ids=["nan", "zero", "alike"]
)
def test_a_broken_variant_is_an_error_and_the_others_go_on(measure, static, few, tmp_path, value, why):
    bad = broken(static, tmp_path / "bad", lambda table: np.full_like(table, value))
    found = measure({"bad": bad, "static": static}, dimensions=[], folder=few)
    assert why in found["bad"]["error"]
    assert "error" not in found["static"]
    assert not (tmp_path / "quality/samples/bad.json").exists()


def test_one_changed_variant_measures_only_that_one(measure, static, few, tmp_path):
    measure({"static": static}, dimensions=[], folder=few)
    cells = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*.json")}
    other = broken(static, tmp_path / "other", lambda table: table * np.float32(2))
    found = measure({"static": static, "other": other}, dimensions=[], folder=few)
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*.json")}
    assert len(cells) == 2 * len(FEW), "the variant's and the floor's"
    assert len(after) == 3 * len(FEW)
    assert cells.items() <= after.items()
    assert found["static"] == found["other"]  # unit norm removes the factor


BUMPS = {"onnxruntime": 0, "tokenizers": 2 * len(FEW), "mteb": 2 * len(FEW)}


@pytest.mark.parametrize("library", BUMPS)
def test_a_new_library_measures_the_cells_again_that_it_can_change(
    measure, static, few, tmp_path, monkeypatch, library
):
    """The static variant and the floor, of kind static too, do not run in ONNX Runtime."""
    first = measure({"static": static}, "first", dimensions=[], folder=few)
    before = {path.name for path in (tmp_path / "cache").glob("*.json")}
    installed = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99.0" if name == library else installed(name))
    assert measure({"static": static}, "second", dimensions=[], folder=few) == first
    assert len({path.name for path in (tmp_path / "cache").glob("*.json")} - before) == BUMPS[library]


@pytest.mark.parametrize("damage", [lambda body: body[:-9], lambda body: body[:200] + b"7" + body[201:], lambda _: b""])
def test_a_damaged_cell_is_measured_again(measure, static, few, tmp_path, damage):
    first = measure({"static": static}, dimensions=[], folder=few)
    for path in (tmp_path / "cache").iterdir():
        path.write_bytes(damage(path.read_bytes()))
    assert measure({"static": static}, dimensions=[], folder=few) == first


def test_other_task_files_are_other_cells(measure, static, suite, tmp_path):
    first = measure({"static": static}, dimensions=[])["static"]["256"]
    text = (suite / "WordSim353STS/test.csv").read_text(encoding="utf-8")
    half = changed(suite, tmp_path / "half", "WordSim353STS/test.csv", "".join(text.splitlines(keepends=True)[:200]))
    second = measure({"static": static}, dimensions=[], folder=half)["static"]["256"]
    assert second["WordSim353STS"]["samples"] == 199
    assert {name: score for name, score in second.items() if score == first[name]}.keys() == first.keys() - {
        "WordSim353STS"
    }


def test_an_empty_suite_is_refused(measure, static, suite, tmp_path):
    with pytest.raises(InputError, match="no task"):
        measure({"static": static}, folder=changed(suite, tmp_path / "empty", "tasks.json", "[]\n"))
    assert not (tmp_path / "quality").exists()


def test_a_missing_task_file_is_no_fault_of_the_variant(measure, static, suite, tmp_path):
    with pytest.raises(InputError, match="WordSim353STS"):
        measure({"static": static}, folder=changed(suite, tmp_path / "less", "WordSim353STS/test.csv", None))


def test_fp32_is_better_than_its_static_copy(measure, converted):
    found = measure({name: converted(name) for name in ("fp32", "static")}, dimensions=[])
    best, fast = found["fp32"]["384"], found["static"]["256"]
    for task in ("AwsOperationRetrieval", "AwsServiceClassification", "DjangoMessagesBitextMining"):
        assert best[task]["main_score"] > fast[task]["main_score"]


def test_retrieval_with_texts_cut_to_fewer_tokens(measure, converted, params, few, tmp_path):
    """By all encoders alike; a limit that a variant does not reach is its own, and no cell of its own."""
    config = params.quality.model_copy(update={"max_tokens": [8, 64, 512]})
    variants = {name: converted(name) for name in ("fp32", "onnx_fp32", "static")}
    quality.run(config, variants, "fp32", [], few, tmp_path / "quality", 2, tmp_path / "cache")
    scores = json.loads((tmp_path / "quality/scores.json").read_text(encoding="utf-8"))
    (by_task,) = json.loads((tmp_path / "quality/shorter.json").read_text(encoding="utf-8")).items()
    task, found = by_task
    assert task == "AwsOperationRetrieval"
    assert set(found) == set(variants)
    for name, dimension in (("fp32", "384"), ("onnx_fp32", "384"), ("static", "256")):
        full = scores[name][dimension][task]["main_score"]
        assert set(found[name]) == {"8", "64"}
        assert found[name]["8"] < found[name]["64"] <= full + 0.05
        assert found[name]["8"] < full
    assert found["onnx_fp32"] == pytest.approx(found["fp32"], abs=1e-3)
