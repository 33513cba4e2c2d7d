"""Latency measured for real, on variants small enough for a test; no assertion on how fast anything is."""

import csv
import json
import os
import random
import shutil
from statistics import median

import pytest
from embed_foundry import InputError, manifest, open_variant

from stages.latency import texts
from support.tiny_static import DOCUMENTS, measure, workers

# What else runs on the machine is none of these tests' business.
pytestmark = pytest.mark.filterwarnings("ignore:latency. other processes")


def test_a_run_holds_what_it_documents(place):
    report = measure(place)
    assert json.loads((place / "latency" / "latency.json").read_text()) == report
    assert manifest.verify(place / "latency").parameters["machine"] == report["machine_digest"]
    assert report["machine"] == json.loads((place / "machine.json").read_text())
    assert (report["baseline"], report["threads"], set(report["variants"])) == ("base", 1, {"base", "twin"})
    assert {"load_before", "load_after", "others_cpus", "crowded"} <= set(report["host"])
    for figures in report["variants"].values():
        assert set(figures) == {"lengths", "batch", "cold_start_s", "peak_rss_mb"}
        assert set(figures["lengths"]) == {"8", "32"}
        for timed in figures["lengths"].values():
            assert set(timed) == {"n", "median_ms", "after_pause_ms", "p95_ms", "p95_ms_upper", "speedup"}
            assert timed["n"] == 60
            assert 0 < timed["median_ms"] <= timed["p95_ms"] <= timed["p95_ms_upper"]
        batch = figures["batch"]
        assert (batch["size"], batch["tokens"], batch["n"]) == (4, 16, 6)
        assert batch["tokens_per_s"] == pytest.approx(16 * batch["texts_per_s"], rel=1e-3)
        assert len(figures["cold_start_s"]["values"]) == 2
        assert 0.02 < figures["cold_start_s"]["median"] < 60
        assert 20 < figures["peak_rss_mb"] < 400
    assert not workers(os.getpid())


def test_a_baseline_against_itself_is_as_fast_as_itself(place):
    report = measure(place, lengths=[32], cold_starts=1)
    itself = {"median": 1.0, "low": 1.0, "high": 1.0}
    assert report["variants"]["base"]["lengths"]["32"]["speedup"] == itself
    speedup = report["variants"]["twin"]["lengths"]["32"]["speedup"]
    assert 0.2 < speedup["low"] <= speedup["median"] <= speedup["high"] < 5
    assert speedup["low"] < 1.25
    assert speedup["high"] > 0.8


def test_the_figures_follow_from_the_samples(place):
    report = measure(place, cold_starts=1, rounds=12)
    with (place / "latency" / "samples.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * (2 * 12 + 6)
    found = {(row["variant"], row["tokens"], row["batch"], int(row["round"])): float(row["ms"]) for row in rows}
    for name, figures in report["variants"].items():
        for tokens, batch, n in (("8", "1", 12), ("32", "1", 12), ("16", "4", 6)):
            mine = [found[name, tokens, batch, at] for at in range(n)]
            ratios = [found["base", tokens, batch, at] / ms for at, ms in enumerate(mine)]
            timed = figures["lengths"][tokens] if batch == "1" else figures["batch"]
            assert timed["median_ms"] == pytest.approx(median(mine), rel=1e-2, abs=1e-3)
            assert timed["speedup"]["median"] == pytest.approx(median(ratios), rel=1e-2)
            assert "p95_ms" not in timed  # 12 rounds carry none
    assert {row["after_pause_ms"] == "" for row in rows if row["batch"] == "1"} == {False}
    assert {row["after_pause_ms"] for row in rows if row["batch"] == "4"} == {""}


def test_lengths_over_the_limit_are_left_out_and_the_batch_is_cut_to_it(place):
    report = measure(place, lengths=[64, 65, 512], rounds=6, batch_length=512, cold_starts=1)
    for figures in report["variants"].values():
        assert set(figures["lengths"]) == {"64"}
        assert figures["batch"]["tokens"] == 64


def test_texts_have_exactly_their_length_and_differ(place):
    encoder = open_variant(place / "variants" / "base", 1)
    documents = texts.passages(place / "data", random.Random(0))
    assert sorted(documents) == sorted({" ".join(text.split()) for text in DOCUMENTS})
    for tokens in (3, 8, 31, 64, 300):
        found = texts.exact(documents, tokens, 5, encoder.count_tokens)
        assert len(set(found)) == len(found) == 5
        assert encoder.count_tokens(found) == [tokens] * len(found)
    with pytest.raises(InputError, match="exactly 100000 tokens"):
        texts.exact(documents[:2], 100_000, 5, encoder.count_tokens)


def test_another_machines_fingerprint_is_refused_before_anything_is_measured(place):
    path = place / "machine.json"
    other = json.loads(path.read_text()) | {"cpus": 96}
    for text in (json.dumps(other), "[]", ""):
        path.write_text(text)
        with pytest.raises(InputError, match=r"python -m stages.machine --refresh"):
            measure(place)
    path.unlink()
    with pytest.raises(InputError, match=r"machine.json: not readable"):
        measure(place)
    assert not (place / "latency").exists()


def test_a_suite_without_documents_is_refused(place):
    (place / "data" / "Tiny" / "corpus.jsonl").unlink()
    manifest.write(place / "data", {"stage": "data"})
    with pytest.raises(InputError, match=r"no .*corpus\.jsonl"):
        measure(place, cold_starts=1)


def test_rounds_go_on_until_ratios_are_tight_or_the_time_is_up(place):
    few = measure(place, rounds=6, tight=1.0, extra_s=20)
    shutil.rmtree(place / "latency")
    many = measure(place, rounds=6, tight=1e-9, extra_s=1)
    counts = [found["variants"]["twin"]["lengths"]["8"]["n"] for found in (few, many)]
    assert counts[0] < 40, "tight enough soon: the variants are the same"
    assert counts[1] > counts[0], "never tight enough: a second of rounds"
