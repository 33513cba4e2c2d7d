"""gate: from the stages' folders to a verdict, metrics and tables, or to a refusal."""

import copy
import csv
import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from embed_foundry import IntegrityError, Variant, manifest

from stages import catalog, gate
from stages.common.records.evidence import Evidence
from stages.common.records.verdict import Verdict
from stages.gate.assess import assess
from support import small_release
from support.gate_facts import ABSENT, EXACT, GOOD, change, latency_report, target

BOTH = ("fp32", "it")


@pytest.fixture
def build(tmp_path) -> dict[str, Path]:
    """Return the folders of a small build: two variants, their scores and times."""
    for name in ("fp32", "it"):
        folder = tmp_path / "variants" / name
        folder.mkdir(parents=True)
        (folder / "weights").write_bytes(bytes(20_000))
        record = Variant(name, "onnx", "fp32", "m@0", "a", 384, (384, 128), 256, {}, {}, parity=GOOD["parity"])
        (folder / "variant.json").write_bytes(manifest.canonical(record.to_json()))
        manifest.write(folder, {"stage": f"convert@{name}"})
    catalog.run(dict.fromkeys(["fp32", "it"], "onnx"), tmp_path / "variants", tmp_path / "catalog")
    tasks = {name: {"default": {"value": [0.4, 0.6] * 50}} for name in GOOD["quality"]["384"]}
    for name in ("fp32", "it"):
        small_release.write(
            tmp_path / "quality", f"samples/{name}.json", {"384": tasks, "128": {"Find": tasks["Find"]}}
        )
    small_release.write(tmp_path / "quality", "floor.json", GOOD["floor"])
    small_release.write(tmp_path / "quality", "compatibility.json", {})
    small_release.write(tmp_path / "quality", "shorter.json", {})
    small_release.write(tmp_path / "quality", "scores.json", dict.fromkeys(BOTH, GOOD["quality"]))
    small_release.write(tmp_path / "latency", "latency.json", latency_report(dict.fromkeys(BOTH, GOOD["latency"])))
    return {name: tmp_path / name for name in ("catalog", "variants", "quality", "latency")}


def test_run_writes_verdict_metrics_and_tables(build, tmp_path):
    limits = EXACT | {"size_mb_max": 0.5, "peak_rss_over_baseline_mb_max": 300}
    verdict = gate.run(target(limits), small_release.GATE, "fp32", **build, out=tmp_path / "gate")
    written = json.loads((tmp_path / "gate" / "verdict.json").read_text())
    assert written["release"] == {
        "passes": True,
        "passing": ["it"],
        "reason": "1 candidate passes (1 required): it",
    }
    assert written["catalog"] == manifest.read(build["catalog"]).digest
    assert Verdict.load(tmp_path / "gate" / "verdict.json") == verdict
    assert written["variants"]["it"]["checks"][0] == {
        **{"limit": "size_mb_max", "on": "", "bound": 0.5, "value": 0.021, "margin": 0.479, "verdict": "pass"},
        **{"estimate": None, "high": None, "samples": None, "needed": None, "note": "", "passes": True},
    }
    metrics = json.loads((tmp_path / "gate" / "metrics.json").read_text())
    assert metrics["variants_passing"] == 1
    assert metrics["it"] == {
        "size_mb": 0.021,
        "limits_missed": 0,
        "cosine_min": 0.95,
        "quality": {"Find@384": 0.6, "Sort@384": 0.8, "Rank@384": 0.7, "Rate@384": 0.5, "Find@128": 0.4},
        "speedup": {"32": 2.0, "128": 1.5},
        "median_ms": {"32": 5.0, "128": 9.0},
        "peak_rss_mb": 300.0,
        "cold_start_s": 2.0,
    }
    rows = list(csv.DictReader((tmp_path / "gate" / "quality.csv").open()))
    assert len(rows) == 2 * 5
    assert rows[0] == {
        **{"variant": "fp32", "task": "Find", "dimensions": "384", "score": "0.6"},
        **dict.fromkeys(("retention", "low", "high"), "1.0"),
    }
    rows = list(csv.DictReader((tmp_path / "gate" / "latency.csv").open()))
    assert rows[-1] == {"variant": "it", "tokens": "128", "speedup": "1.5", "median_ms": "9.0"}
    assert manifest.verify(tmp_path / "gate").inputs["catalog"] == verdict.catalog


def scores(quality: dict) -> tuple[str, str, dict]:
    return "quality", "scores.json", {"fp32": GOOD["quality"], "it": quality}


def times(latency: dict) -> tuple[str, str, dict]:
    return "latency", "latency.json", latency_report({"fp32": GOOD["latency"], "it": latency})


BROKEN = {
    "an encoder that failed": scores({"error": "row 3"}),
    "a variant without scores": ("quality", "scores.json", {"fp32": GOOD["quality"]}),
    "NaN": scores(change("384.Find.main_score", math.nan, GOOD["quality"])),
    "a worker that died": times({"error": "-9"}),
    "a variant without times": ("latency", "latency.json", latency_report({"fp32": GOOD["latency"]})),
    "an infinite time": times(change("lengths.32.speedup.median", math.inf, GOOD["latency"])),
    "no samples of a dimension that was scored": (
        *("quality", "samples/it.json"),
        {"384": {name: {"default": {"value": [0.4, 0.6] * 50}} for name in GOOD["quality"]["384"]}},
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_run_ends_with_a_verdict_whatever_was_measured(build, tmp_path, case):
    name, file, content = BROKEN[case]
    small_release.write(tmp_path / name, file, content)
    limits = EXACT | {"size_mb_max": 0.5}
    verdict = gate.run(target(limits), small_release.GATE, "fp32", **build, out=tmp_path / "gate")
    assert not verdict.variants["it"].passes
    assert verdict.variants["it"].reasons
    assert not verdict.release.passes
    metrics = json.loads((tmp_path / "gate" / "metrics.json").read_text())
    assert metrics["it"]["limits_missed"] == len(verdict.variants["it"].reasons)


MALFORMED = {
    "latency.json without the host's load": (
        *("latency", "latency.json"),
        change("host", ABSENT, latency_report(dict.fromkeys(BOTH, GOOD["latency"]))),
        r"latency\.json: host: Field required",
    ),
    "a score without a value": (*scores({"384": {"Find": {}}}), r"scores\.json: it\."),
    "a number in quotes": (
        *scores(change("384.Find.main_score", "0.6", GOOD["quality"])),
        r"scores\.json: it\..*main_score: Input should be a valid number",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_what_no_stage_writes_is_refused(build, tmp_path, case):
    name, file, content, message = MALFORMED[case]
    small_release.write(tmp_path / name, file, content)
    with pytest.raises(IntegrityError, match=rf"{message}.* Next: dvc repro {name}"):
        gate.run(target(), small_release.GATE, "fp32", **build, out=tmp_path / "gate")
    assert not (tmp_path / "gate").exists()


@pytest.mark.parametrize("name", ["catalog", "quality", "latency"])
def test_a_changed_input_is_refused(build, tmp_path, name):
    path = next(path for path in build[name].glob("*.json") if path.name != manifest.NAME)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(IntegrityError, match=f"{name}.{path.name}"):
        gate.run(target(), small_release.GATE, "fp32", **build, out=tmp_path / "gate")
    assert not (tmp_path / "gate").exists()


@pytest.mark.parametrize("name", ["quality", "latency"])
def test_a_variant_converted_again_after_it_was_measured_is_refused(build, tmp_path, name):
    (build["variants"] / "it" / "weights").write_bytes(bytes(20_001))
    manifest.write(build["variants"] / "it", {"stage": "convert@it"})
    catalog.run(dict.fromkeys(["fp32", "it"], "onnx"), build["variants"], build["catalog"])
    other = {"quality": "latency", "latency": "quality"}[name]
    path = next(path for path in build[other].glob("*.json") if path.name != manifest.NAME)
    small_release.write(build[other], path.name, json.loads(path.read_text()))
    with pytest.raises(IntegrityError, match=rf"{name}: measured it with digest .* Next: dvc repro {name}, then gate"):
        gate.run(target(), small_release.GATE, "fp32", **build, out=tmp_path / "gate")
    assert not (tmp_path / "gate").exists()


def test_same_figures_give_the_same_bytes(build, tmp_path):
    gate.run(target(), small_release.GATE, "fp32", **build, out=tmp_path / "a")
    gate.run(target(), small_release.GATE, "fp32", **build, out=tmp_path / "b")
    assert (tmp_path / "a" / manifest.NAME).read_bytes() == (tmp_path / "b" / manifest.NAME).read_bytes()


@pytest.mark.parametrize(
    ("quota", "message"),
    [
        ({"cpus": None, "enforced": False}, ""),
        ({"cpus": 0.5, "enforced": True}, ""),
        (
            {"cpus": 0.5, "enforced": False, "why": "no root"},
            "0.5 CPUs could not be enforced on this machine (no root)",
        ),
    ],
)
def test_only_a_quota_that_did_not_hold_is_reported(build, quota, message):
    report = latency_report(dict.fromkeys(BOTH, GOOD["latency"]), quota=quota)
    small_release.write(build["latency"], "latency.json", report)
    folders = {name: build["variants"] / name for name in BOTH}
    evidence = Evidence.load(folders, build["quality"], build["latency"])
    unenforced = assess(small_release.GATE, "fp32", evidence)["it"].unenforced
    assert message in unenforced
    assert bool(message) == bool(unenforced)


ALL_LIMITS = EXACT | {"size_mb_max": 0.5, "peak_rss_over_baseline_mb_max": 300}
# The files whose figures limits are held against.
FIGURES = ("variants/it/variant.json", "quality/scores.json", "quality/floor.json", "quality/samples/fp32.json")
FIGURES += ("quality/samples/it.json", "latency/latency.json")


def paths_of(value: object, *path: str | int) -> Iterator[tuple[str | int, ...]]:
    """Yield the place of everything in a JSON value, and of no more than the first two items of a list."""
    items = value.items() if isinstance(value, dict) else list(enumerate(value))[:2] if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from paths_of(inner, *path, key)


def judge_changed(build: dict[str, Path], out: Path, name: str, content: object) -> dict[str, Any] | None:
    """Write one file of a build, manifests included, and return its verdict; None if the gate refuses to judge."""
    path = out.parent / name
    path.write_text(json.dumps(content), encoding="utf-8")
    manifest.write(build["variants"] / "it", {"stage": "convert@it"})
    try:
        catalog.run(dict.fromkeys(BOTH, "onnx"), build["variants"], build["catalog"])
        for stage in ("quality", "latency"):
            small_release.write(build[stage], "touched", {})
        verdict = gate.run(target(ALL_LIMITS), small_release.GATE, "fp32", **build, out=out)
    except IntegrityError:
        return None
    return json.loads(verdict.dump())["variants"]["it"]


@pytest.mark.parametrize("fault", ["removed", "not a number"])
@pytest.mark.parametrize("name", FIGURES)
def test_a_variant_passes_only_by_figures_that_are_all_there(build, tmp_path, name, fault):
    """Whatever is taken out of what was measured: the gate refuses it, or the variant fails, or no check needs it."""
    out, path = tmp_path / "gate", tmp_path / name
    original = json.loads(path.read_text(encoding="utf-8"))
    whole = judge_changed(build, out, name, original)
    assert whole["passes"]
    outcomes = Counter()
    for *parents, last in list(paths_of(original)):
        content = copy.deepcopy(original)
        inner = content
        for key in parents:
            inner = inner[key]
        if fault == "removed":
            del inner[last]
        elif isinstance(inner[last], float):
            inner[last] = math.nan
        else:
            continue
        verdict = judge_changed(build, out, name, content)
        needless = verdict and verdict["checks"] == whole["checks"] and verdict["passes"]
        assert not verdict or not verdict["passes"] or needless, (parents, last)
        assert not verdict or verdict["passes"] or verdict["reasons"], (parents, last)
        outcomes["refused" if not verdict else "needless" if needless else "fails"] += 1
    assert outcomes["refused"] + outcomes["fails"] > 0, outcomes
