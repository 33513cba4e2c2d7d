"""Faults planted inside a converter, in a process of its own: parity shows them, and the gate refuses by the limit."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from embed_foundry import Variant, manifest

from stages import catalog, convert, gate
from support import small_release
from support.gate_facts import latency_report, target

PROGRAM = Path(__file__).with_name("planted_conversion.py")
LIMITS = {"cosine_mean_min": 0.99, "cosine_min_min": 0.95, "batch_shift_max": 0.02, "retention_min": {"Retrieval": 0.5}}
# Fault -> the limits that it misses.
MISSED = {"drift": {"cosine_mean_min", "cosine_min_min"}, "reverse": {"batch_shift_max"}}


@pytest.fixture
def judge_planted(workplace, root, converted, conversion_cache, params):
    """Return a function that converts with a fault, and returns the variant and the gate's verdict on it."""

    def run(fault):
        variants = workplace / "variants"
        shutil.copytree(converted("fp32"), variants / "fp32")
        shutil.copytree(conversion_cache, workplace / convert.CACHE, ignore=shutil.ignore_patterns(".*"))
        subprocess.run(
            [sys.executable, PROGRAM, fault],
            cwd=workplace,
            env=os.environ | {"PYTHONPATH": str(root)},
            check=True,
            timeout=300,
        )
        names = ("fp32", "bf16")
        catalog.run(dict.fromkeys(names, "torch"), variants, workplace / "catalog")
        for name in names:
            small_release.write(workplace / "quality", f"samples/{name}.json", small_release.samples(variants / name))
        scores = {name: small_release.scores(variants / name) for name in names}
        for file, content in {"scores": scores, "floor": {}, "compatibility": {}, "shorter": {}}.items():
            small_release.write(workplace / "quality", f"{file}.json", content)
        latency = latency_report(dict.fromkeys(names, small_release.times()))
        small_release.write(workplace / "latency", "latency.json", latency)
        aim = target(LIMITS, ("bf16",)).model_copy(update={"limits": {"bf16": target(LIMITS).limits["it"]}})
        places = (workplace / name for name in ("catalog", "variants", "quality", "latency", "gate"))
        verdict = gate.run(aim, small_release.GATE, "fp32", *places)
        assert not verdict.release.passes
        return Variant.load(variants / "bf16"), verdict.variants["bf16"]

    return run


@pytest.mark.slow
@pytest.mark.parametrize("fault", MISSED)
def test_a_fault_inside_a_converter_does_not_ship(judge_planted, probes, workplace, fault):
    variant, verdict = judge_planted(fault)
    manifest.verify(workplace / "variants" / "bf16")
    missed = {check.limit: check for check in verdict.checks if not check.passes}
    assert missed.keys() == MISSED[fault], verdict.reasons
    if fault == "drift":
        assert variant.parity["worst_text"] in probes
        worst, mean = missed["cosine_min_min"].value, missed["cosine_mean_min"].value
        assert worst == variant.parity["cosine_min"] < mean
        assert f"cosine_min_min: {worst:g}, limit 0.95" in verdict.reasons
    else:
        assert variant.parity["cosine_min"] > 0.99, "each text alone is right"
        assert missed["batch_shift_max"].value > 0.5
