"""Latency measured for real, on variants small enough for a test; no assertion on how fast anything is."""

import csv
import json
import os
import random
import shutil
from statistics import median

import pytest
from embed_foundry import InputError, IntegrityError, manifest, open_variant
from embed_foundry.timing import sized_texts

from stages.common.measure import host
from stages.common.records.latency import LatencyReport, Speedup
from stages.common.records.machine import Machine
from stages.latency.measurement import load_documents
from support.tiny_static import DOCUMENTS, list_workers, run_latency

# What else runs on the machine is none of these tests' business.
pytestmark = pytest.mark.filterwarnings("ignore:latency. other processes")


def test_a_run_writes_the_report_that_it_returns(tiny_build):
    report = run_latency(tiny_build)
    path = tiny_build / "latency" / LatencyReport.FILE
    assert LatencyReport.load(path) == report
    assert path.read_bytes() == report.dump()
    assert manifest.verify(tiny_build / "latency").parameters["machine"] == report.machine_digest
    assert report.machine == Machine.load(tiny_build / Machine.FILE) == host.fingerprint_machine()
    assert (report.baseline, report.threads, set(report.variants)) == ("base", 1, {"base", "twin"})
    for figures in report.variants.values():
        assert set(figures.lengths) == {8, 32}
        for length in figures.lengths.values():
            assert length.n == 60
            assert 0 < length.median_ms <= length.p95_ms <= length.p95_ms_upper
            assert (length.p99_ms, length.p99_ms_upper) == (None, None)
        batch = figures.batch
        assert (batch.size, batch.tokens, batch.n) == (4, 16, 6)
        assert batch.tokens_per_s == pytest.approx(16 * batch.texts_per_s, rel=1e-3)
        assert len(figures.cold_start_s.values) == 2
        assert 0.02 < figures.cold_start_s.median < 60
        assert 20 < figures.peak_rss_mb < 400
    assert not list_workers(os.getpid())


def test_the_report_has_its_documented_keys_and_no_key_for_an_absent_figure(tiny_build):
    run_latency(tiny_build)
    content = json.loads((tiny_build / "latency" / LatencyReport.FILE).read_text())
    assert set(content) == set(LatencyReport.model_fields)
    assert {"load_before", "load_after", "others_cpus", "crowded"} <= set(content["host"])
    assert content["quota"] == {"cpus": None, "enforced": False}
    for figures in content["variants"].values():
        assert set(figures) == {"lengths", "batch", "cold_start_s", "peak_rss_mb"}
        assert set(figures["lengths"]) == {"8", "32"}
        for length in figures["lengths"].values():
            assert set(length) == {"n", "median_ms", "after_pause_ms", "p95_ms", "p95_ms_upper", "speedup"}


@pytest.mark.parametrize("key", ["host", "quota"])
def test_a_report_without_its_conditions_is_refused(tiny_build, key):
    run_latency(tiny_build, rounds=6, cold_starts=1)
    path = tiny_build / "latency" / LatencyReport.FILE
    content = json.loads(path.read_text())
    del content[key]
    path.write_text(json.dumps(content))
    with pytest.raises(IntegrityError, match=rf"latency\.json: {key}: Field required.* dvc repro latency"):
        LatencyReport.load(path)


@pytest.mark.quiet
@pytest.mark.parametrize("seed", [0, 2, 5])  # base starts first, twin starts first twice
def test_a_baseline_against_itself_is_as_fast_as_itself(tiny_build, seed):
    report = run_latency(tiny_build, lengths=[32], cold_starts=1, seed=seed)
    assert report.variants["base"].lengths[32].speedup == Speedup(median=1.0, low=1.0, high=1.0)
    speedup = report.variants["twin"].lengths[32].speedup
    assert 0.2 < speedup.low <= speedup.median <= speedup.high < 5
    assert speedup.low < 1.25
    assert speedup.high > 0.8


def test_the_figures_follow_from_the_samples(tiny_build):
    report = run_latency(tiny_build, cold_starts=1, rounds=12)
    with (tiny_build / "latency" / "samples.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * (2 * 12 + 6)
    ms = {(row["variant"], int(row["tokens"]), int(row["batch"]), int(row["round"])): float(row["ms"]) for row in rows}
    for name, figures in report.variants.items():
        for tokens, batch, n in ((8, 1, 12), (32, 1, 12), (16, 4, 6)):
            own = [ms[name, tokens, batch, number] for number in range(n)]
            ratios = [ms["base", tokens, batch, number] / own[number] for number in range(n)]
            summary = figures.lengths[tokens] if batch == 1 else figures.batch
            assert summary.median_ms == pytest.approx(median(own), rel=1e-2, abs=1e-3)
            assert summary.speedup.median == pytest.approx(median(ratios), rel=1e-2)
            assert batch > 1 or summary.p95_ms is None  # 12 rounds support none
    paused = {int(row["round"]) for row in rows if row["batch"] == "1" and row["after_pause_ms"]}
    assert paused == {0, 6}, "every sixth round"
    assert {row["after_pause_ms"] for row in rows if row["batch"] == "4"} == {""}


def test_lengths_over_the_limit_are_left_out_and_the_batch_is_cut_to_it(tiny_build):
    report = run_latency(tiny_build, lengths=[64, 65, 512], rounds=6, batch_length=512, cold_starts=1)
    for figures in report.variants.values():
        assert set(figures.lengths) == {64}
        assert figures.batch.tokens == 64


def test_texts_have_exactly_their_length_and_differ(tiny_build):
    encoder = open_variant(tiny_build / "variants" / "base", 1)
    documents = load_documents(tiny_build / "data", random.Random(0))
    assert sorted(documents) == sorted({" ".join(text.split()) for text in DOCUMENTS})
    for tokens in (3, 8, 31, 64, 300):
        texts = sized_texts.cut_exact_texts(documents, tokens, 5, encoder.count_tokens)
        assert len(set(texts)) == len(texts) == 5
        assert encoder.count_tokens(texts) == [tokens] * len(texts)
    with pytest.raises(InputError, match="exactly 100000 tokens"):
        sized_texts.cut_exact_texts(documents[:2], 100_000, 5, encoder.count_tokens)


def test_another_machines_fingerprint_is_refused_before_anything_is_measured(tiny_build):
    path = tiny_build / Machine.FILE
    machine = json.loads(path.read_text())
    quoted = {"cpus": str(machine["cpus"])}
    for text in (json.dumps(machine | {"cpus": 96}), json.dumps(machine | quoted), "{}", "[]", ""):
        path.write_text(text)
        with pytest.raises(InputError, match=r"python -m stages.machine --refresh"):
            run_latency(tiny_build)
    path.unlink()
    with pytest.raises(InputError, match=r"machine.json: not readable"):
        run_latency(tiny_build)
    assert not (tiny_build / "latency").exists()


def test_a_suite_without_documents_is_refused(tiny_build):
    (tiny_build / "data" / "Tiny" / "corpus.jsonl").unlink()
    manifest.write(tiny_build / "data", {"stage": "data"})
    with pytest.raises(InputError, match=r"no .*corpus\.jsonl"):
        run_latency(tiny_build, cold_starts=1)


def test_rounds_go_on_until_ratios_are_tight_for_as_many_again(tiny_build):
    few = run_latency(tiny_build, rounds=12, tight=100.0, cold_starts=1)
    shutil.rmtree(tiny_build / "latency")
    many = run_latency(tiny_build, rounds=12, tight=1e-9, cold_starts=1)
    assert [report.variants["twin"].lengths[8].n for report in (few, many)] == [12, 24]
    assert few.series[0] == few.series[0].model_copy(update={"tokens": 8, "batch": 1, "rounds": 12, "periods": {}})


@pytest.mark.quiet
def test_a_series_ends_with_its_time(tiny_build):
    report = run_latency(tiny_build, rounds=100_000, budget_s=3, cold_starts=1)
    assert report.budget_s == 3
    assert all(9 <= length.n < 100_000 for length in report.variants["twin"].lengths.values())
    assert sum(series.seconds for series in report.series) < 6
