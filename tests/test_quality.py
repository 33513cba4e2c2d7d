"""quality: scores of real encoders on a small suite, the cell cache, and variants that are broken on purpose."""

import importlib.metadata
import json
import re
import shutil

import numpy as np
import pytest
from embed_foundry import InputError, manifest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from stages import quality
from stages.common.config import Engine
from stages.common.records.base import Failure
from stages.common.records.scores import Compatibility, Floor, Samples, TruncatedScores
from stages.common.records.tasks import load_tasks
from stages.quality import evaluation
from stages.quality.cell import CellRequest, CellSettings
from stages.quality.floor import write_floor
from support.altered_copies import broken, changed, renamed

TASKS = 6
# One process, this one: starting others takes longer than these small suites.
ALONE = Engine(name="local", processes=1)
FEW = ("AwsOperationRetrieval", "WordSim353STS")


@pytest.fixture(scope="module")
def few(select_tasks):
    """Return the suite's two quickest tasks: enough for what does not depend on a task's type."""
    return select_tasks(*FEW)


@pytest.fixture(scope="module")
def kept_cells(tmp_path_factory):
    """Return a cell cache of all tests that are about scores, not about cells."""
    return tmp_path_factory.mktemp("cells")


@pytest.fixture(scope="module")
def static(converted):
    return converted("static")


@pytest.fixture
def evaluate(params, small_suite, tmp_path):
    """Return a function that evaluates variants into a new folder, by default with one cell cache for the test."""

    def run(variants, out="quality", *, dimensions=(384, 256, 128), folder=small_suite, cache="cache"):
        baseline = "static" if "static" in variants else next(iter(variants))
        paths = {"data": folder, "out": tmp_path / out, "cache": tmp_path / cache}
        return quality.run(params.quality, variants, baseline, dimensions, **paths, engine=ALONE)

    return run


def test_same_bytes_twice_cold_and_from_cells(evaluate, static, tmp_path):
    evaluate({"static": static}, "first")
    evaluate({"static": static}, "cold", cache="other")
    evaluate({"static": static}, "kept")
    digests = {manifest.verify(tmp_path / out).digest for out in ("first", "cold", "kept")}
    assert len(digests) == 1


def test_every_task_is_scored_at_full_length_and_below(evaluate, static, kept_cells):
    by_dimension = evaluate({"static": static}, cache=kept_cells).root["static"].root
    assert set(by_dimension) == {256, 128}  # the static table's own full length, not the model's 384
    for scores in by_dimension.values():
        assert len(scores) == TASKS
        assert all(np.isfinite(score.main_score) and score.samples > 0 for score in scores.values())
    assert set(by_dimension[256]["DjangoMessagesBitextMining"].subsets) == {"en-de", "en-fr"}


def test_scores_and_samples_have_the_keys_that_other_tools_read(evaluate, static, few, tmp_path):
    evaluate({"static": static, "bad": broken(static, tmp_path / "bad", np.zeros_like)}, folder=few)
    scores = json.loads((tmp_path / "quality/scores.json").read_text(encoding="utf-8"))
    assert list(scores["bad"]) == ["error"]
    assert list(scores["static"]) == ["128", "256"]
    assert set(scores["static"]["256"]["WordSim353STS"]) == {"type", "metric", "main_score", "samples"}
    samples = json.loads((tmp_path / "quality/samples/static.json").read_text(encoding="utf-8"))
    assert set(samples["256"]["WordSim353STS"]["default"]) == {"cosine", "gold", "left", "right"}
    assert set(samples["128"]["AwsOperationRetrieval"]["default"]) == {"ndcg_at_10"}


def test_samples_average_to_the_score(evaluate, static, kept_cells, tmp_path):
    scores = evaluate({"static": static}, cache=kept_cells).root["static"].full
    samples = Samples.load(tmp_path / "quality/samples/static.json").root[256]
    for task, name in (("AwsOperationRetrieval", "ndcg_at_10"), ("AwsServiceClassification", "accuracy")):
        assert np.mean(samples[task]["default"][name]) == pytest.approx(scores[task].main_score, abs=1e-4)
    pairs = samples["WordSim353STS"]["default"]
    assert len(pairs["cosine"]) == len(pairs["gold"]) == 353


def test_pairs_that_share_a_text_are_known(evaluate, static, kept_cells, tmp_path):
    evaluate({"static": static}, cache=kept_cells)
    pairs = Samples.load(tmp_path / "quality/samples/static.json").root[256]["LeeDocumentsSTS"]["default"]
    assert len({*pairs["left"], *pairs["right"]}) == 50
    assert len(set(zip(pairs["left"], pairs["right"], strict=True))) == len(pairs["cosine"]) == 1225


def test_the_floor_is_noise_and_a_real_model_is_above_it(evaluate, converted, kept_cells, tmp_path):
    scores = evaluate({"onnx_int8": converted("onnx_int8")}, dimensions=[], cache=kept_cells).root["onnx_int8"].full
    noise = Floor.load(tmp_path / "quality/floor.json").root
    assert set(noise) == set(scores)
    assert abs(noise["WordSim353STS"]) < 0.2, "random vectors know nothing of two different words"
    for task in ("AwsOperationRetrieval", "DjangoMessagesBitextMining", "WordSim353STS", "LeeDocumentsSTS"):
        assert noise[task] < scores[task].main_score


def test_the_floor_weighs_frequent_tokens_down(static, small_suite, tmp_path):
    """By Arora's a / (a + p), p counted in the suite's texts: without it, noise would look weaker than it is."""
    write_floor(static, small_suite, tmp_path / "floor")
    weights = load_file(tmp_path / "floor" / "table.safetensors")["weights"]
    tokenizer = Tokenizer.from_file(str(tmp_path / "floor" / "tokenizer.json"))
    the, rare = (weights[tokenizer.token_to_id(word)] for word in ("the", "archipelago"))
    assert the < 0.1
    assert rare > 0.9


def test_the_floor_of_a_model_with_prompts_is_no_lower(evaluate, static, few, tmp_path):
    """Put before every text, EmbeddingGemma's made noise score 33.4 instead of 61.9 on STSBenchmark."""
    shutil.copytree(static, tmp_path / "prompted")
    record = json.loads((static / "variant.json").read_text(encoding="utf-8"))
    record |= {"prompts": {"STS": "task: sentence similarity | query: "}}
    (tmp_path / "prompted" / "variant.json").write_bytes(manifest.canonical(record))
    evaluate({"static": static}, "plain", dimensions=[], folder=few)
    evaluate({"static": renamed(tmp_path / "prompted")}, "with", dimensions=[], folder=few)
    plain, prompted = (Floor.load(tmp_path / out / "floor.json") for out in ("plain", "with"))
    assert prompted == plain


def test_mixed_indexes_are_ranked_as_mteb_ranks(evaluate, static, few, tmp_path):
    """The diagonal is the task's own score; a permuted space cannot read another's index."""
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(256, 256)))[0].astype(np.float32)
    turned = broken(static, tmp_path / "turned", lambda table: table @ rotation)
    scores = evaluate({"static": static, "turned": turned}, dimensions=[], folder=few)
    (mixed,) = Compatibility.load(tmp_path / "quality/compatibility.json").root.values()
    for name in ("static", "turned"):
        score = scores.root[name].full["AwsOperationRetrieval"].main_score
        assert mixed[name][name].ndcg_at_10 == pytest.approx(score, abs=2e-3)
        assert mixed[name][name].overlap_at_10 == 1.0
        assert mixed[name][name].recall_at_10 >= mixed[name][name].ndcg_at_10
    assert mixed["static"]["turned"].ndcg_at_10 < 0.3
    assert mixed["turned"]["static"].overlap_at_10 < 0.3


def test_mteb_results_carry_no_clock(evaluate, static, few, tmp_path):
    evaluate({"static": static}, folder=few)
    result = json.loads((tmp_path / "quality/results/static/256/WordSim353STS.json").read_text(encoding="utf-8"))
    assert result["task_name"] == "WordSim353STS"
    assert not {"date", "evaluation_time", "evaluation_phases"} & set(result)


def test_rows_under_wrong_tokens_show_in_the_scores(evaluate, static, few, tmp_path):
    def permuted(table):
        used = np.flatnonzero(np.abs(table).sum(axis=1))
        table[used] = table[np.random.default_rng(0).permutation(used)]
        return table

    variants = {"static": static, "permuted": broken(static, tmp_path / "permuted", permuted)}
    scores = evaluate(variants, folder=few).root
    right, wrong = (scores[name].full["WordSim353STS"].main_score for name in ("static", "permuted"))
    assert right > 0.6
    assert wrong < 0.2


@pytest.mark.parametrize(
    ("value", "reason"), [(np.nan, "not finite"), (0.0, "no length"), (1.0, "all alike")], ids=["nan", "zero", "alike"]
)
def test_a_broken_variant_is_an_error_and_the_others_go_on(evaluate, static, few, tmp_path, value, reason):
    bad = broken(static, tmp_path / "bad", lambda table: np.full_like(table, value))
    scores = evaluate({"bad": bad, "static": static}, dimensions=[], folder=few).root
    assert reason in scores["bad"].error
    named = "task [A-Za-z0-9]+" if value == 1 else "task [A-Za-z0-9]+, 256 dimensions: .* first that of text [0-9]+, '"
    assert re.match(named, scores["bad"].error), scores["bad"].error
    assert not isinstance(scores["static"], Failure)
    assert not (tmp_path / "quality/samples/bad.json").exists()


def test_after_a_change_of_one_variant_only_its_cells_are_evaluated(evaluate, static, few, tmp_path):
    evaluate({"static": static}, dimensions=[], folder=few)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*.json")}
    other = broken(static, tmp_path / "other", lambda table: table * np.float32(2))
    scores = evaluate({"static": static, "other": other}, dimensions=[], folder=few).root
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*.json")}
    assert len(before) == 2 * len(FEW), "the variant's and the floor's"
    assert len(after) == 3 * len(FEW)
    assert before.items() <= after.items()
    assert scores["static"] == scores["other"]  # unit norm removes the factor


BUMPS = {"onnxruntime": 0, "tokenizers": 2 * len(FEW), "mteb": 2 * len(FEW)}


@pytest.mark.parametrize("library", BUMPS)
def test_a_new_library_evaluates_the_cells_again_that_it_can_change(
    evaluate, static, few, tmp_path, monkeypatch, library
):
    """The static variant and the floor, of kind static too, do not run in ONNX Runtime."""
    first = evaluate({"static": static}, "first", dimensions=[], folder=few)
    before = {path.name for path in (tmp_path / "cache").glob("*.json")}
    installed = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99.0" if name == library else installed(name))
    assert evaluate({"static": static}, "second", dimensions=[], folder=few) == first
    assert len({path.name for path in (tmp_path / "cache").glob("*.json")} - before) == BUMPS[library]


@pytest.mark.parametrize("damage", [lambda body: body[:-9], lambda body: body[:200] + b"7" + body[201:], lambda _: b""])
def test_a_damaged_cell_is_evaluated_again(evaluate, static, few, tmp_path, damage):
    first = evaluate({"static": static}, dimensions=[], folder=few)
    for path in (tmp_path / "cache").iterdir():
        path.write_bytes(damage(path.read_bytes()))
    assert evaluate({"static": static}, dimensions=[], folder=few) == first


def test_other_task_files_are_other_cells(evaluate, static, small_suite, kept_cells, tmp_path):
    first = evaluate({"static": static}, dimensions=[], cache=kept_cells).root["static"].full
    text = (small_suite / "WordSim353STS/test.csv").read_text(encoding="utf-8")
    half = changed(
        small_suite, tmp_path / "half", "WordSim353STS/test.csv", "".join(text.splitlines(keepends=True)[:200])
    )
    second = evaluate({"static": static}, dimensions=[], folder=half, cache=kept_cells).root["static"].full
    assert second["WordSim353STS"].samples == 199
    assert {name: score for name, score in second.items() if score == first[name]}.keys() == first.keys() - {
        "WordSim353STS"
    }


def test_an_empty_suite_is_refused(evaluate, static, small_suite, tmp_path):
    with pytest.raises(InputError, match="no task"):
        evaluate({"static": static}, folder=changed(small_suite, tmp_path / "empty", "tasks.json", "[]\n"))
    assert not (tmp_path / "quality").exists()


def test_a_missing_task_file_is_no_fault_of_the_variant(evaluate, static, small_suite, tmp_path):
    with pytest.raises(InputError, match="WordSim353STS"):
        evaluate({"static": static}, folder=changed(small_suite, tmp_path / "less", "WordSim353STS/test.csv", None))


def test_a_transformer_is_better_than_its_static_copy(evaluate, converted, kept_cells):
    scores = evaluate({name: converted(name) for name in ("onnx_int8", "static")}, dimensions=[], cache=kept_cells).root
    best, fast = scores["onnx_int8"].full, scores["static"].full
    for task in ("AwsOperationRetrieval", "AwsServiceClassification", "DjangoMessagesBitextMining"):
        assert best[task].main_score > fast[task].main_score


def test_retrieval_with_texts_truncated_to_fewer_tokens(converted, params, few, kept_cells, tmp_path):
    """By all encoders alike; a limit that a variant does not reach is its own, and no cell of its own."""
    config = params.quality.model_copy(update={"max_tokens": [8, 64, 512]})
    variants = {name: converted(name) for name in ("fp32", "onnx_fp32", "static")}
    scores = quality.run(config, variants, "fp32", [], few, tmp_path / "quality", kept_cells, ALONE)
    ((task, truncated),) = TruncatedScores.load(tmp_path / "quality/shorter.json").root.items()
    assert task == "AwsOperationRetrieval"
    assert set(truncated) == set(variants)
    for name in variants:
        full = scores.root[name].full[task].main_score
        assert set(truncated[name]) == {8, 64}
        assert truncated[name][8] < truncated[name][64] <= full + 0.05
        assert truncated[name][8] < full
    assert truncated["onnx_fp32"] == pytest.approx(truncated["fp32"], abs=1e-3)


def test_one_encoder_is_open_at_a_time_and_stays_open_for_the_same_variant(static, few, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(evaluation, "open_variant", lambda *arguments: opened.append(arguments) or object())
    other = renamed(shutil.copytree(static, tmp_path / "other"))
    task = load_tasks(few)[0]
    slot = evaluation.EncoderSlot()
    for folder, max_tokens in [(static, None)] * 2 + [(static, 64), (other, 64)]:
        slot.open(CellRequest(folder, few, task, CellSettings((256,), 32, max_tokens), "digest"))
    assert opened == [(static, 1, None), (static, 1, 64), (other, 1, 64)]
