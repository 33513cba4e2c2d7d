"""The report, from inputs that the real catalog, latency figures and gate made of small synthetic measurements."""

import csv
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pytest
import release
import yaml
from embed_foundry import IntegrityError, Variant, manifest

from stages import catalog, gate, report
from stages.common.artifact import publish
from stages.common.catalog import listed
from stages.common.config import Limits, Target
from stages.latency import figures
from stages.latency.timing import Sample

ROOT = Path(__file__).resolve().parent.parent
LENGTHS, BATCH = (8, 128), (32, 128)
SPEED = {"fp32": 1.0, "bf16": 1.4, "onnx_fp32": 1.5, "onnx_int8": 2.5, "static": 40.0}
KEPT = {"fp32": 1.0, "bf16": 0.999, "onnx_fp32": 1.0, "onnx_int8": 0.98, "static": 0.7}
TASKS = {
    "Operations": ("Retrieval", "ndcg_at_10", 0.64, ()),
    "Messages": ("BitextMining", "f1", 0.4, ("de", "fr")),
    "Words": ("STS", "cosine_spearman", 0.72, ()),
}
PAIR = {"ndcg_at_10": 0.61, "recall_at_10": 0.7, "overlap_at_10": 0.93}
LOST = PAIR | {"ndcg_at_10": 0.21}
MIXED = {
    "fp32": {"fp32": PAIR | {"ndcg_at_10": 0.64}, "onnx_int8": PAIR, "bf16": LOST},
    "onnx_int8": {"fp32": PAIR, "onnx_int8": PAIR},
    "bf16": {"fp32": PAIR},
}
HOSTILE = "<script>alert('x')</script> {{ 7 * 7 }} & $\\alpha$"


@dataclass
class Build:
    """Folders of one build, and the faults to put into it before `judge`."""

    root: Path
    params: object
    limits: dict[str, Limits] = field(default_factory=dict)
    errors: dict[str, tuple[str, str]] = field(default_factory=dict)
    tasks: dict[str, tuple] = field(default_factory=lambda: dict(TASKS))
    rounds: int = 60
    worst_text: str = "the worst text"
    others_cpus: float = 0.02

    def judge(self) -> "Build":
        for name in SPEED:
            self._variant(name)
        self._measured("quality", "scores.json", {name: self._scores(name) for name in SPEED})
        self._measured("latency", "latency.json", self._latency())
        catalog.run(list(SPEED), self.root / "variants", self.root / "catalog")
        gate.run(
            self.target,
            release.GATE,
            "fp32",
            *(self.root / name for name in ("catalog", "variants", "quality", "latency", "gate")),
        )
        return self

    @property
    def target(self) -> Target:
        values = self.params.target.model_dump() | {"candidates": ["onnx_int8", "onnx_fp32", "static"], "required": 1}
        return Target.model_validate(values | {"limits": {name: one.model_dump() for name, one in self.limits.items()}})

    def report(self, out: str = "report") -> str:
        variants = listed(self.root / "catalog", self.root / "variants")
        folders = (self.root / name for name in ("quality", "latency", "gate", out))
        return report.run(self.params.model, self.target.name, variants, *folders)

    @property
    def page(self) -> str:
        return (self.root / "report" / report.PAGE).read_text(encoding="utf-8")

    def _error(self, name: str, part: str) -> dict[str, str] | None:
        failed = self.errors.get(name)
        return {"error": failed[1]} if failed and failed[0] == part else None

    def _variant(self, name: str) -> None:
        torch, static = name in ("fp32", "bf16"), name == "static"
        parity = {"texts": 50, "similarity_spearman": 0.51, "batch_shift_max": 0.0}
        if not static:
            parity |= {"cosine_min": KEPT[name], "cosine_mean": KEPT[name], "worst_text": self.worst_text}
        variant = Variant(
            name=name,
            kind="torch" if torch else "static" if static else "onnx",
            precision="fp32",
            model="repo@revision",
            space_id=name,
            dimensions=256 if static else 384,
            matryoshka=(256, 128) if static else (384, 256, 128),
            max_tokens=256,
            prompts={},
            files={},
            parity=self._error(name, "parity") or parity,
        )
        with publish(self.root / "variants" / name, stage=f"convert@{name}", parameters={}, inputs={}) as work:
            (work / "variant.json").write_bytes(manifest.canonical(variant.to_json()))
            (work / "weights").write_bytes(bytes(100_000))

    def _scores(self, name: str) -> dict:
        dimensions = {384: 1.0, 256: 0.98, 128: 0.9}
        return self._error(name, "quality") or {
            str(dimension): {
                task: {"type": kind, "metric": metric, "main_score": round(full * KEPT[name] * cut, 6), "samples": 300}
                | ({"subsets": dict.fromkeys(subsets, 0.25)} if subsets else {})
                for task, (kind, metric, full, subsets) in self.tasks.items()
            }
            for dimension, cut in dimensions.items()
            if (name, dimension) != ("static", 384)
        }

    def _samples(self, scores: dict) -> dict:
        """Return values whose means are the scores, spread alike for all variants."""
        return {
            dimension: {
                task: {"default": {"value": [found["main_score"] * (0.9 + 0.2 * at / 299) for at in range(300)]}}
                for task, found in tasks.items()
                if found.get("main_score") is not None
            }
            for dimension, tasks in scores.items()
        }

    def _latency(self) -> dict:
        noise = random.Random(0)
        calls = figures.by_variant(
            Sample(name, tokens, batch, number, ms, ms * 1.2 if batch == 1 else None)
            for number in range(self.rounds)
            for name in SPEED
            for tokens, batch in [*((tokens, 1) for tokens in LENGTHS), (BATCH[1], BATCH[0])]
            for ms in [batch * tokens * noise.uniform(0.99, 1.1) / 8 / SPEED[name]]
        )
        variants = {
            name: self._error(name, "latency")
            or {
                "lengths": figures.lengths(calls[name], calls["fp32"]),
                "batch": figures.batches(calls[name], calls["fp32"], BATCH[1], BATCH[0]),
                "cold_start_s": {"median": 0.5, "values": [0.4, 0.5, 0.6]},
                "peak_rss_mb": 300.0,
            }
            for name in SPEED
        }
        machine = {"cpu": "Some CPU", "flags": ["avx2"], "cpus": 2, "quota_cpus": None}
        return {
            "machine": machine,
            "host": {"steal_s": 0.25, "others_cpus": self.others_cpus},
            "threads": 2,
            "baseline": "fp32",
            "variants": variants,
        }

    def _measured(self, stage: str, name: str, content: dict) -> None:
        inputs = {f"variants/{name}": self.root / "variants" / name for name in SPEED}
        with publish(self.root / stage, stage=stage, parameters={}, inputs=inputs, libraries=("numpy",)) as work:
            (work / name).write_bytes(manifest.canonical(content))
            if stage == "quality":
                (work / "floor.json").write_bytes(manifest.canonical(dict.fromkeys(self.tasks, 0.125)))
                (work / "compatibility.json").write_bytes(manifest.canonical({"Operations": MIXED}))
            for variant in SPEED if stage == "quality" else ():
                if "error" not in content[variant]:
                    path = work / "samples" / f"{variant}.json"
                    path.parent.mkdir(exist_ok=True)
                    path.write_bytes(manifest.canonical(self._samples(content[variant])))


class Page(HTMLParser):
    """Rows of cells, all attributes, and the text outside of markup."""

    def __init__(self, text: str):
        super().__init__()
        self.rows, self.links, self.tags, self.text, self.inside = [], [], set(), "", False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href", "action")]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        self.text += data
        if self.inside:
            self.rows[-1][-1] += data.strip()

    def row(self, *words: str) -> list[str]:
        (found,) = [row for row in self.rows if all(word in row for word in words)]
        return found


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
    timed = json.loads((build.root / "latency" / "latency.json").read_text())["variants"]["static"]
    shown = page.row("static", "32 × 128 tokens")
    assert shown[2] == f"{timed['batch']['texts_per_s']:,.0f}"
    assert "Some CPU" in page.text
    assert "this machine’s" in page.text
    for name in ("variants/static", "quality", "latency", "gate"):
        assert manifest.read(build.root / name)["digest"] in page.text


@pytest.mark.parametrize(("rounds", "shown"), [(50, ()), (60, ("P95",)), (300, ("P95", "P99"))])
def test_only_percentiles_that_n_carries_have_columns(build, rounds, shown):
    build.rounds = rounds
    build.judge().report()
    (header,) = [row for row in Page(build.page).rows if row[:1] == ["Tokens"]]
    assert tuple(name for name in ("P95", "P99") if f"{name}ms" in header) == shown


@pytest.mark.parametrize(("others_cpus", "warned"), [(0.02, False), (1.5, True)])
def test_figures_from_a_busy_machine_carry_a_warning(build, others_cpus, warned):
    build.others_cpus = others_cpus
    assert ("other processes" in build.judge().report()) == warned
    assert ("Other processes kept 1.50 CPUs busy" in build.page) == warned


def test_the_trade_off_leaves_out_what_has_no_quality(build):
    build.errors = {"bf16": ("quality", "failed")}
    build.judge().report()
    tradeoff, latency = build.page.split("<svg")[1:3]
    assert ">onnx_int8<" in tradeoff
    assert ">bf16<" not in tradeoff
    assert ">bf16<" in latency


def test_the_same_inputs_give_the_same_bytes_everywhere(build, tmp_path):
    build.judge().report()
    first = {path.name: path.read_bytes() for path in (build.root / "report").iterdir()}
    (tmp_path / "matplotlibrc").write_text("font.size: 30\nsvg.fonttype: path\naxes.grid: False\naxes.labelpad: 20\n")
    settings = {"MATPLOTLIBRC": str(tmp_path), "TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONHASHSEED": "7"}
    script = (
        "import sys; from pathlib import Path; from stages import report; from stages.common import catalog, config;"
        "root = Path(sys.argv[1]); model = config.Model.model_validate_json(sys.argv[2]);"
        "variants = catalog.listed(root / 'catalog', root / 'variants');"
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
    assert plots
    for plot in plots:
        ((name, facts),) = plot.items()
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


def test_mixed_indexes_and_noise_are_shown(build):
    build.judge().report()
    page = Page(build.page)
    rows = [row for row in page.rows if row and row[0] == "onnx_int8" and len(row) == 4]
    assert ["onnx_int8", "–", "0.6109.3", "0.6109.3"] in rows
    assert "noise 0.125" in page.text
