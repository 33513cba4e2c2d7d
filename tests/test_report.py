"""The report's table, its refusals and its bytes."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from embed_foundry import IntegrityError

from stages import report
from stages.common.config import Limits
from support.reported_build import SPEED, Build, Page

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def build(tmp_path, params) -> Build:
    return Build(tmp_path, params)


def columns(table: str, label: str) -> list[str]:
    (line,) = [line for line in table.splitlines() if line.strip().startswith(label)]
    return line.strip().removeprefix(label).split()


def test_the_table_says_who_passes_and_by_which_figures(build):
    table = build.judge().report()
    assert table == (build.root / "report" / report.TEXT).read_text(encoding="utf-8")
    assert build.params.model.repo in table
    assert "release: PASS" in table
    names = ["fp32", "bf16", "onnx_fp32", "onnx_int8", "static"]
    assert names in [line.split() for line in table.splitlines()]
    assert columns(table, "verdict") == ["reference", "reference", "PASS", "PASS", "PASS"]
    assert columns(table, "size, MB") == ["0.1"] * 5
    assert columns(table, "cosine to fp32, min") == ["1.0000", "0.9990", "1.0000", "0.9800", "-"]
    # static's full dimension, 256, against the baseline's, 384.
    assert columns(table, "Retrieval") == ["100.0", "99.9", "100.0", "98.0", "68.6"]
    speedups = [float(cell.removesuffix("x")) for cell in columns(table, "128 tokens")]
    assert speedups == pytest.approx(list(SPEED.values()), rel=0.05)
    assert max(len(line) for line in table.splitlines()[3:]) <= 80


def test_a_missed_limit_is_marked_explained_and_has_its_margin(build):
    build.limits = {"onnx_int8": Limits(size_mb_max=0.05, retention_min={"Retrieval": 0.99, "STS": 0.5})}
    table = build.judge().report()
    assert columns(table, "verdict")[3] == "FAIL"
    assert columns(table, "size, MB") == ["0.1", "0.1", "0.1", "0.1!", "0.1"]
    assert columns(table, "Retrieval")[3] == "98.0!"
    assert columns(table, "STS")[3] == "98.0"
    verdict = json.loads((build.root / "gate" / "verdict.json").read_text())["variants"]["onnx_int8"]
    assert len(verdict["reasons"]) == 4, "retrieval misses at all three dimensions"
    for reason in verdict["reasons"]:
        assert reason in table
        assert reason in Page(build.page).text
    page = Page(build.page)
    assert [cell.replace("\u202f", " ") for cell in page.row("retention", "Operations")[-6:]] == [
        "Operations",
        "98.00 %, at least 98.00 %",
        "≥ 99.00 %",
        "−1.00 pp",
        "−1.0 %",
        "✗ no",
    ]
    assert page.row("retention", "Words")[-1] == "✓ yes"


@pytest.mark.parametrize(
    ("limits", "verdict", "marked"),
    [
        (Limits(size_mb_max=0.05), "FAIL", True),
        (Limits(cold_start_s_max=0.1), "FAIL", False),  # missed, but the table has no row for it
        (Limits(size_mb_max=1), "PASS", False),
    ],
)
def test_the_mark_is_explained_where_a_cell_carries_it(build, limits, verdict, marked):
    build.limits = {"onnx_int8": limits}
    table = build.judge().report()
    assert columns(table, "verdict")[3] == verdict
    assert (columns(table, "size, MB")[3] == "0.1!") == marked
    assert ("\n! misses its limit\n" in table) == marked
    assert ("\nonnx_int8 (FAIL):\n" in table) == (verdict == "FAIL")


def test_a_release_that_fails_says_so_at_the_top(build):
    build.limits = {name: Limits(size_mb_max=0.05) for name in ("onnx_int8", "onnx_fp32", "static")}
    assert "release: FAIL" in build.judge().report()
    assert "No release." in build.page
    assert "Release passes" not in build.page


@pytest.mark.parametrize("part", ["parity", "quality", "latency"])
def test_a_part_that_failed_is_shown_not_hidden(build, part):
    build.errors = {"onnx_int8": (part, "token id 31000 is out of range")}
    table = build.judge().report()
    assert columns(table, "verdict")[3] == "FAIL"
    assert f"{part}: token id 31000 is out of range" in table
    assert Page(build.page).text.count("token id 31000 is out of range") >= 2  # among the reasons, and in its section


def test_a_failed_baseline_leaves_a_page_without_ratios(build):
    build.errors = {"fp32": ("quality", "out of memory")}
    table = build.judge().report()
    assert columns(table, "Retrieval") == ["-"] * 5
    assert "out of memory" in build.page


@pytest.mark.parametrize("crowded", [False, True])
@pytest.mark.parametrize("others_cpus", [0.02, 1.5])
def test_a_crowded_run_carries_a_warning_by_the_latency_stages_own_word(build, others_cpus, crowded):
    """Latency counts all CPUs, the fingerprint only those that this process may use: only one of them can be right."""
    build.others_cpus, build.crowded = others_cpus, crowded
    assert ("other processes" in build.judge().report()) == crowded
    assert (f"Other processes kept {others_cpus:.2f} CPUs busy" in build.page) == crowded


def test_a_speedup_that_was_not_judged_says_so_on_the_page(build):
    build.crowded = True
    build.limits = {"onnx_int8": Limits(batch_speedup_min=1.2)}
    table = build.judge().report()
    assert columns(table, "verdict")[3] == "FAIL"
    assert "latency: other processes took the CPUs meanwhile, so speed-ups were not judged" in table
    row = Page(build.page).row("speed-up in batches", "32 x 128 tokens")
    assert row[-5] == "not judged, other processes took the CPUs while latency was measured"


def test_the_same_inputs_give_the_same_bytes_everywhere(build, tmp_path):
    build.judge().report()
    first = {path.name: path.read_bytes() for path in (build.root / "report").iterdir()}
    (tmp_path / "matplotlibrc").write_text("font.size: 30\nsvg.fonttype: path\naxes.grid: False\naxes.labelpad: 20\n")
    settings = {"MATPLOTLIBRC": str(tmp_path), "TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONHASHSEED": "7"}
    script = (
        "import sys; from pathlib import Path; from stages import report; from stages.common import config;"
        "from stages.common.records import catalog;"
        "root = Path(sys.argv[1]); model = config.Model.model_validate_json(sys.argv[2]);"
        "variants = catalog.load_catalogued_variants(root / 'catalog', root / 'variants');"
        "report.run(model, sys.argv[3], variants, root / 'quality', root / 'latency', root / 'gate', root / 'again')"
    )
    arguments = [str(build.root), build.params.model.model_dump_json(), build.target.name]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=ROOT, env=os.environ | settings, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert {path.name: path.read_bytes() for path in (build.root / "again").iterdir()} == first


def test_a_verdict_about_other_inputs_is_refused(build):
    build.judge()
    other = Build(build.root / "other", build.params, rounds=20).judge()
    shutil.rmtree(build.root / "latency")
    (other.root / "latency").rename(build.root / "latency")
    with pytest.raises(IntegrityError, match=r"judged latency .* dvc repro gate"):
        build.report()
    assert not (build.root / "report").exists()


def test_a_changed_input_is_refused(build):
    build.judge()
    path = build.root / "quality" / "scores.json"
    path.write_bytes(path.read_bytes().replace(b"0.64", b"0.99", 1))
    with pytest.raises(IntegrityError, match=r"scores\.json"):
        build.report()


def test_dvc_plots_find_their_columns(build):
    from dvc_render.vega import VegaRenderer

    build.judge()
    plots = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["plots"]
    ours = {name: facts for plot in plots for name, facts in plot.items() if "template" in facts}
    assert set(ours) == {"quality", "speedup", "latency"}
    for name, facts in ours.items():
        ((table, y),) = facts["y"].items()
        ((same, x),) = facts["x"].items()
        assert table == same
        with (build.root / table).open(encoding="utf-8") as file:
            rows = [row | {"rev": "workspace"} for row in csv.DictReader(file)]
        labels = {"x_label": facts["x_label"], "title": facts["title"]}
        drawn = VegaRenderer(rows, name, template=str(ROOT / facts["template"]), x=x, y=y, **labels)
        spec = drawn.get_filled_template()
        assert "DVC_METRIC" not in json.dumps(spec)
        made = {step["as"] for step in spec["transform"] if "as" in step}
        assert set(used_fields(spec)) <= {*rows[0], *made}


def used_fields(spec: object) -> Iterator[str]:
    if isinstance(spec, dict):
        yield from [spec["field"]] if "field" in spec else []
        for key, value in spec.items():
            yield from used_fields(value) if key != "data" else ()
    elif isinstance(spec, list):
        for value in spec:
            yield from used_fields(value)
