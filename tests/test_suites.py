"""Stock mteb tasks: from a user's folder and from a hub, through the data stage, to mteb's own scores."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from embed_foundry import IntegrityError, manifest

from stages import data, quality
from stages.common.config import Engine
from stages.common.records.base import Failure
from stages.common.records.scores import TaskScore
from support import stock_task_data

# The stage starts no processes for such small suites.
ALONE = Engine(name="local", processes=1)
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
TYPES = {
    "STSBenchmark": "STS",
    "Banking77Classification": "Classification",
    "MassiveScenarioClassification": "Classification",
    "CEDRClassification": "MultilabelClassification",
    "HALClusteringS2S.v2": "Clustering",
    "WikiCitiesClustering": "Clustering",
    "SciFact": "Retrieval",
    "XQuADRetrieval": "Retrieval",
    "AskUbuntuDupQuestions": "Reranking",
    "Core17InstructionRetrieval": "InstructionReranking",
    "Tatoeba": "BitextMining",
    "NTREXBitextMining": "BitextMining",
    "SprintDuplicateQuestions": "PairClassification",
    "SummEvalSummarization.v2": "Summarization",
}
# Task -> per-sample values of a subset, and how many. The small folder has 36 texts, 3 questions, 24 pairs.
SAMPLES = {
    "STSBenchmark": ({"cosine", "gold", "left", "right"}, 20),
    "Banking77Classification": ({"accuracy"}, 36),
    "MassiveScenarioClassification": ({"accuracy"}, 72),  # two splits
    "CEDRClassification": (set(), 60),
    "HALClusteringS2S.v2": ({"v_measure"}, 10),
    "WikiCitiesClustering": ({"v_measure"}, 2),
    "SciFact": ({"ndcg_at_10"}, 3),
    "XQuADRetrieval": ({"ndcg_at_10"}, 6),  # two subsets
    "AskUbuntuDupQuestions": ({"map_at_1000"}, 3),
    "Core17InstructionRetrieval": (set(), 6),
    "Tatoeba": ({"accuracy"}, 36),
    "NTREXBitextMining": ({"accuracy"}, 72),  # each way
    "SprintDuplicateQuestions": ({"cosine", "label"}, 24),
    "SummEvalSummarization.v2": (set(), 3),
}


def records(out: Path) -> dict[str, dict]:
    return {record["name"]: record for record in json.loads((out / "tasks.json").read_text(encoding="utf-8"))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a user's folder with a few rows of every kind of task."""
    return stock_task_data.write_suite(tmp_path_factory.mktemp("mine") / "tasks")


@pytest.fixture(scope="module")
def written(folder, tmp_path_factory) -> Path:
    """Return what the data stage writes of it."""
    out = tmp_path_factory.mktemp("data") / "data"
    data.run(stock_task_data.airgapped(folder), out)
    return out


@pytest.fixture
def mine(folder, tmp_path) -> Path:
    """Return a copy of the user's folder, to break."""
    return Path(shutil.copytree(folder, tmp_path / "mine"))


# --- a folder -----------------------------------------------------------------------------------------------------


def test_every_folder_is_a_task_with_mtebs_metadata(written):
    by_name = records(written)
    assert {name: record["type"] for name, record in by_name.items()} == TYPES
    assert by_name["AskUbuntuDupQuestions"]["main_score"] == "map_at_1000"
    assert by_name["MassiveScenarioClassification"]["splits"] == ["validation", "test"]
    assert list(by_name["XQuADRetrieval"]["languages"]) == ["de", "en"], "mteb's order"
    assert sorted(by_name["NTREXBitextMining"]["languages"]) == ["eng_Latn-fra_Latn", "fra_Latn-eng_Latn"]
    assert all(record["revision"].startswith("local-") for record in by_name.values())


def test_all_formats_give_one_layout(written):
    names = {path.relative_to(written).as_posix() for path in written.rglob("*") if path.is_file()}
    assert {path.rpartition(".")[2] for path in names} == {"json", "jsonl", "tsv"}
    for name in ("STSBenchmark/test.jsonl", "MassiveScenarioClassification/en/train.jsonl", "SciFact/corpus.jsonl"):
        assert name in names
    assert "XQuADRetrieval/de/qrels.tsv" in names
    assert "AskUbuntuDupQuestions/ranked.jsonl" in names
    assert "SciFact/ranked.jsonl" not in names


def test_same_bytes_from_another_place(mine, written, tmp_path):
    data.run(stock_task_data.airgapped(mine), tmp_path / "again")
    assert manifest.verify(tmp_path / "again").digest == manifest.verify(written).digest
    assert str(mine) not in (tmp_path / "again" / "manifest.json").read_text(encoding="utf-8")


def test_suite_tasks_selects_folders(folder, tmp_path):
    data.run(stock_task_data.airgapped(folder, ("SciFact",)), tmp_path / "data")
    assert list(records(tmp_path / "data")) == ["SciFact"]


def test_counts_that_differ_from_published_ones_are_recorded_or_refused(folder, tmp_path, capfd):
    data.run(stock_task_data.airgapped(folder, ("STSBenchmark",)), tmp_path / "data")
    assert "task STSBenchmark: test has 20 rows, published 1379" in capfd.readouterr().err
    assert records(tmp_path / "data")["STSBenchmark"]["counts"] == "differ"
    with pytest.raises(IntegrityError, match=r"30 documents and 3 queries, published 5183 and 300.*suite\.counts=warn"):
        data.run(stock_task_data.airgapped(folder, ("SciFact",), counts="refuse"), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_latency_finds_texts_where_no_task_has_a_corpus_at_the_top(folder, written, tmp_path):
    from stages.latency.measurement import load_documents

    data.run(stock_task_data.airgapped(folder, ("XQuADRetrieval", "STSBenchmark")), tmp_path / "data")
    assert len(load_documents(tmp_path / "data", random.Random(0))) == 30
    data.run(stock_task_data.airgapped(folder, ("STSBenchmark",)), tmp_path / "sts")
    assert load_documents(tmp_path / "sts", random.Random(0))
    assert not (written / "passages").exists()


def test_line_separators_in_a_text_break_no_line(mine, tmp_path):
    text = "one\u2028two\x85three"
    stock_task_data.write_table(mine / "STSBenchmark/test.csv", ("sentence1", "sentence2", "score"), [(text, "b", 1)])
    data.run(stock_task_data.airgapped(mine, ("STSBenchmark",)), tmp_path / "data")
    (line,) = (tmp_path / "data/STSBenchmark/test.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["sentence1"] == text


# --- quality ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evaluated(params, converted, written, tmp_path_factory) -> tuple[dict[str, TaskScore], Path]:
    """Return the scores of the static variant on every type of task, and the quality folder."""
    place = tmp_path_factory.mktemp("quality")
    variants = {"static": converted("static")}
    paths = {"data": written, "out": place / "quality", "cache": place / "cache"}
    scores = quality.run(params.quality, variants, "static", [], **paths, engine=ALONE)
    static = scores.root["static"]
    assert not isinstance(static, Failure), static
    return static.root[256], place / "quality"


def test_every_type_is_scored_in_mtebs_own_format(evaluated):
    scores, out = evaluated
    assert {name: score.type for name, score in scores.items()} == TYPES
    for name, score in scores.items():
        result = json.loads((out / f"results/static/256/{name}.json").read_text(encoding="utf-8"))
        assert result["task_name"] == name
        assert result["dataset_revision"].startswith("local-"), "not the hub's bytes"
        main_scores = [row["main_score"] for rows in result["scores"].values() for row in rows]
        assert np.mean(main_scores) == pytest.approx(score.main_score, abs=1e-6)
    assert set(scores["XQuADRetrieval"].subsets) == {"de", "en"}
    assert scores["Banking77Classification"].main_score > 0.6, "topics can be told apart"


@pytest.mark.parametrize("name", TYPES)
def test_samples_of_every_type(evaluated, name):
    scores, out = evaluated
    samples = json.loads((out / "samples/static.json").read_text(encoding="utf-8"))["256"][name]
    names, count = SAMPLES[name]
    assert scores[name].samples == count
    for columns in samples.values():
        assert set(columns) == names
    metric = scores[name].metric
    if metric in names:
        means = [np.mean(columns[metric]) for columns in samples.values()]
        assert np.mean(means) == pytest.approx(scores[name].main_score, abs=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data are a developer's aid")
def test_published_scores_come_out(params, converted, tmp_path):
    real = tmp_path / "real"
    for name in ("STSBenchmark", "Banking77Classification", "XQuADRetrieval/en"):
        shutil.copytree(SHARED / name, real / name)
    data.run(stock_task_data.airgapped(real), tmp_path / "data")
    # This copy of XQuAD has 5 questions twice; mteb's dataset has each once.
    assert {name: record["counts"] for name, record in records(tmp_path / "data").items()} == {
        "Banking77Classification": "as published", "STSBenchmark": "as published", "XQuADRetrieval": "differ"
    }  # fmt: skip
    variants = {"fp32": converted("fp32")}
    paths = {"data": tmp_path / "data", "out": tmp_path / "q", "cache": tmp_path / "cache"}
    scores = quality.run(params.quality, variants, "fp32", [], **paths, engine=ALONE)
    percent = {name: 100 * score.main_score for name, score in scores.root["fp32"].full.items()}
    print(percent)
    assert percent["STSBenchmark"] == pytest.approx(82.03, abs=0.02)
    assert percent["Banking77Classification"] == pytest.approx(80.04, abs=0.5)
    assert percent["XQuADRetrieval"] == pytest.approx(94.36, abs=0.3)
