"""Faults planted into a variant, through quality and the whole gate: each must keep it from shipping, by name.

The baseline is the real static variant of MiniLM: a second to measure, and its faults are those of any weights.
"""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from embed_foundry import Variant, manifest
from embed_foundry.encoders import kinds
from embed_foundry.encoders.static import StaticEncoder
from safetensors.numpy import load_file, save_file

from stages import catalog, convert, data, gate, quality
from stages.common.config import Engine, Target
from support import small_release
from support.gate_facts import GOOD, latency_report

# The stage starts no processes for such small suites.
ALONE = Engine(name="local", processes=1)
LIMITS = {
    "retention_min": {"Retrieval": 0.97, "Classification": 0.97, "STS": 0.97},
    "lead_min": {"STS": 0.9},
    "speedup_min": {32: 1.2},
    "batch_speedup_min": 1.2,
    "batch_shift_max": 0.02,
    "cosine_min_min": 0.95,
}
FAST = small_release.times(2.0)
PARITY = GOOD["parity"] | {"batch_shift_max": 0.0, "cosine_min": 1.0}


class ShuffledEncoder(StaticEncoder):
    """Gives every text of a call the vector of the one before it."""

    def _embed(self, rows, batch_size):
        embedding = super()._embed(rows, batch_size)
        return replace(embedding, vectors=np.roll(embedding.vectors, 1, axis=0))


@pytest.fixture(scope="module")
def suite(params, tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "data"
    data.run(params.suite.model_copy(update={"queries": 200, "corpus": 600, "services": 8, "languages": ["de"]}), out)
    return out


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cells")


@pytest.fixture
def judge(converted, params, suite, cache, tmp_path):
    """Return a function that judges a variant against the static baseline and gives its verdict."""

    def run(plant=lambda folder: None, times=FAST):
        for name in ("baseline", "candidate"):
            shutil.copytree(converted("static"), tmp_path / "variants" / name)
            # No truncated vectors are measured.
            edit(tmp_path / "variants" / name, name=name, parity=PARITY, matryoshka=[256])
        plant(tmp_path / "variants" / "candidate")
        for name in ("baseline", "candidate"):
            manifest.write(tmp_path / "variants" / name, {"stage": f"convert@{name}"})
        folders = {name: tmp_path / "variants" / name for name in ("baseline", "candidate")}
        kinds = {name: Variant.load(folder).kind for name, folder in folders.items()}
        catalog.run(kinds, tmp_path / "variants", tmp_path / "catalog")
        quality.run(
            params.quality,
            folders,
            "baseline",
            [],
            suite,
            tmp_path / "quality",
            cache,
            ALONE,
        )
        latency = latency_report({"baseline": small_release.times(1.0), "candidate": times})
        small_release.write(tmp_path / "latency", "latency.json", latency)
        changes = {"candidates": ["candidate"], "required": 1, "limits": {"candidate": LIMITS}}
        target = params.target.model_dump() | changes
        places = (tmp_path / name for name in ("catalog", "variants", "quality", "latency", "gate"))
        verdict = gate.run(Target.model_validate(target), params.gate, "baseline", *places)
        assert verdict.release.passes == verdict.variants["candidate"].passes
        return verdict.variants["candidate"]

    return run


def edit(folder, **changes):
    record = json.loads((folder / "variant.json").read_text(encoding="utf-8"))
    (folder / "variant.json").write_bytes(manifest.canonical(record | changes))


def table(change):
    """Return a fault that changes the table of vectors."""

    def plant(folder):
        tensors = load_file(folder / "table.safetensors")
        values = change(tensors["embeddings"].astype(np.float32)).astype(np.float32)
        save_file(tensors | {"embeddings": values}, folder / "table.safetensors")

    return plant


def noisy(values):
    """Coarse rounding, as of a bad 8-bit conversion: 4 % of the score lost on WordSim353, measured."""
    rng = np.random.default_rng(0)
    return values + rng.normal(0, 0.5 * values.std(), values.shape)


def test_a_variant_against_itself_passes_everything(judge):
    verdict = judge()
    assert (verdict.passes, verdict.reasons) == (True, [])
    ratios = [check for check in verdict.checks if check.limit == "retention_min"]
    assert len(ratios) == 4
    assert all(check.value == check.estimate == check.high == 1.0 for check in ratios)


FAULTS = {
    "zeros": (table(np.zeros_like), "quality: .* have no length"),
    "nan": (table(lambda values: np.full_like(values, np.nan)), "quality: .* not finite"),
    "constant": (table(np.ones_like), "quality: .* all alike"),
    "rows under wrong tokens": (table(lambda values: np.roll(values, 1, axis=0)), "retention_min"),
    "a lost prompt": (lambda folder: edit(folder, prompts={"query": "query: "}), "record: its prompts differ"),
    "vectors that depend on the batch": (
        lambda folder: edit(folder, parity=PARITY | {"batch_shift_max": 0.2}),
        "batch_shift_max: 0.2, limit 0.02",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_does_not_ship(judge, fault):
    plant, pattern = FAULTS[fault]
    verdict = judge(plant)
    assert not verdict.passes
    assert any(re.search(pattern, reason) for reason in verdict.reasons), verdict.reasons


def test_three_points_lost_on_one_task_do_not_ship(judge):
    verdict = judge(table(noisy))
    (lost,) = [check for check in verdict.checks if (check.limit, check.on) == ("retention_min", "WordSim353STS")]
    assert 0.95 < lost.estimate < 0.97, "two to four of 66 points"
    assert not lost.passes
    assert not verdict.passes


def test_shuffled_rows_do_not_ship(judge, monkeypatch):
    monkeypatch.setitem(kinds.KINDS, "shuffled", replace(kinds.KINDS["static"], encoder=f"{__name__}:ShuffledEncoder"))
    verdict = judge(lambda folder: edit(folder, kind="shuffled"))
    assert not verdict.passes
    assert sum(reason.startswith("retention_min") for reason in verdict.reasons) >= 3


def test_a_variant_that_is_faster_only_alone_does_not_ship(judge):
    slow = FAST["batch"] | {"speedup": {"median": 0.7, "low": 0.6, "high": 0.8}}
    verdict = judge(times=FAST | {"batch": slow})
    reason = "batch_speedup_min 32 x 128 tokens: 0.7, between 0.6 and 0.8 by 10 samples, limit 1.2"
    assert verdict.reasons == [reason]


@pytest.mark.parametrize(
    ("module", "change"),
    [("1_Pooling", {"pooling_mode": "cls"}), ("2_Dense", None)],
    ids=["wrong pooling", "skipped head"],
)
def test_wrong_modules_show_in_parity(params, recipes, gemma, tmp_path, monkeypatch, module, change):
    """The fault sits in the conversion: what it writes is not what it was given."""
    model = params.model.model_copy(update={"matryoshka": [48], "max_tokens": 1024})
    from stages.convert import torch as room

    sound = room.convert

    def faulty(folders, recipe):
        draft = sound(folders, recipe)
        if change:
            path = folders.work / "model" / module / "config.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | change))
        else:
            path = folders.work / "model" / "modules.json"
            kept = [entry for entry in json.loads(path.read_text()) if not entry["path"].startswith(("2_", "3_"))]
            path.write_text(json.dumps(kept))
            draft = replace(draft, dimensions=96)
        return draft

    monkeypatch.setattr(room, "convert", faulty)
    convert.run("fp32", recipes["fp32"], model, gemma, tmp_path / "fp32", cache=tmp_path / "cache")
    parity = Variant.load(tmp_path / "fp32").parity
    if change:
        assert re.search(
            r"the vector of '.*' \(prompt None\) is .* \(L2\) from sentence-transformers'", parity["error"]
        )
    else:
        assert parity == {"error": "vectors have 96 dimensions, the base model's 48."}
