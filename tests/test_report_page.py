"""The report's page: what it shows, that it needs nothing else, and that texts stay texts."""

import json

import pytest
from embed_foundry import manifest

from support.reported_build import TASKS, Build, Page

HOSTILE = "<script>alert('x')</script> {{ 7 * 7 }} & $\\alpha$"


@pytest.fixture
def build(tmp_path, params) -> Build:
    return Build(tmp_path, params)


def test_texts_with_markup_stay_texts(build):
    build.worst_text = HOSTILE
    build.errors = {"static": ("latency", HOSTILE)}
    build.tasks = {f"T{HOSTILE[:20]}$x$": TASKS["Operations"]}
    build.judge().report()
    page = Page(build.page)
    assert "script" not in page.tags
    assert page.text.count(HOSTILE) >= 5
    assert page.row("static", HOSTILE)


def test_the_page_needs_nothing_else(build):
    build.judge().report()
    page = Page(build.page)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert [link for link in page.links if not link.startswith("#")] == []
    assert "@import" not in build.page
    assert build.page.count("<svg") == 4
    ids = [part.split('"')[0] for part in build.page.split(' id="')[1:]]
    assert len(ids) == len(set(ids))


def test_figures_on_the_page(build):
    build.judge().report()
    page = Page(build.page)
    # One row a task and dimension; the first also holds the task. Score and per cent of fp32 at 384 stand together.
    assert page.row("OperationsRetrieval · ndcg_at_10 · n 300 · noise 0.125")[1:3] == ["384", "0.640100.0"]
    assert page.row("de")[1:] == ["0.250"] * 5
    latency = json.loads((build.root / "latency" / "latency.json").read_text())["variants"]["static"]
    row = page.row("static", "32 × 128 tokens")
    assert row[2] == f"{latency['batch']['texts_per_s']:,.0f}"
    assert "Some CPU" in page.text
    assert "this machine’s" in page.text
    assert "60 rounds took 9 of 300 seconds. Not timed in every round: fp32." in page.text
    for name in ("variants/static", "quality", "latency", "gate"):
        assert manifest.read(build.root / name).digest in page.text


@pytest.mark.parametrize(("rounds", "shown"), [(50, ()), (60, ("P95",)), (300, ("P95", "P99"))])
def test_only_percentiles_that_n_carries_have_columns(build, rounds, shown):
    build.rounds = rounds
    build.judge().report()
    (header,) = [row for row in Page(build.page).rows if row[:1] == ["Tokens"]]
    assert tuple(name for name in ("P95", "P99") if f"{name}ms" in header) == shown


def test_the_trade_off_leaves_out_what_has_no_quality(build):
    build.errors = {"bf16": ("quality", "failed")}
    build.judge().report()
    tradeoff, latency = build.page.split("<svg")[1:3]
    assert ">onnx_int8<" in tradeoff
    assert ">bf16<" not in tradeoff
    assert ">bf16<" in latency


def test_mixed_indexes_and_noise_are_shown(build):
    build.judge().report()
    page = Page(build.page)
    rows = [row for row in page.rows if row and row[0] == "onnx_int8" and len(row) == 4]
    assert ["onnx_int8", "–", "0.6109.3", "0.6109.3"] in rows
    assert "noise 0.125" in page.text


def test_shares_of_the_machines_limit(build):
    """fp32 computes 10^7 operations a token in 1/8 ms and up to a tenth more: 73 to 81 of 100 possible."""
    build.judge().report()
    page = Page(build.page)
    heading = page.text.index("How near the machine’s limit")
    shown = page.text[heading : page.text.index("The machine", heading + 40)]
    assert "% of fp32’s" in shown
    assert "static" not in shown, "it looks vectors up"
    (first,) = [row for row in page.rows if row[:1] == ["8"] and row[1] == "fp32" and len(row) == 5]
    assert 73 <= int(first[2]) <= 81
    assert first[3] == first[2]
    assert int(first[4]) == pytest.approx(int(first[2]) / 4, abs=1)


def test_scores_of_truncated_texts(build):
    build.judge().report()
    assert "truncated to fewer tokens" not in Page(build.page).text
    build.shorter = {"Operations": {"fp32": {"16": 0.32, "64": 0.608}, "onnx_int8": {"64": 0.576}}}
    build.judge().report()
    page = Page(build.page)
    assert ["Variant", "16 tokens", "64 tokens"] in page.rows
    assert page.row("fp32", "0.32050.0", "0.60895.0")
    assert page.row("onnx_int8", "–", "0.57690.0")
