"""A release as the build assembles it: real variants, the real gate and bundle, figures that meet every limit."""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from embed_foundry import Bundle, IntegrityError, Variant, contract, manifest

from stages import bundle, catalog, gate
from stages.common.config import Gate, Model, Target
from support.gate_facts import latency_report
from support.tiny_static import SETTINGS

NAMES = ("fp32", "onnx_fp32", "onnx_int8", "static")
# What ships of them, in the target's order.
ORDER = ["onnx_int8", "onnx_fp32", "static"]
GATE = Gate(confidence=0.95, resamples=1000, seed=0, mixed_index_min=0.95)
SCORES = {"Retrieval": 0.6, "Classification": 0.8, "Clustering": 0.4, "BitextMining": 0.3, "STS": 0.7}
METRICS = {
    "Retrieval": "ndcg_at_10",
    "Classification": "accuracy",
    "Clustering": "v_measure",
    "BitextMining": "f1",
    "STS": "cosine_spearman",
}


@dataclass(frozen=True)
class Build:
    """A build's folders and configuration, up to the release."""

    model: Model
    target: Target
    inputs: bundle.BundleInputs

    @property
    def folder(self) -> Path:
        """Return where `release` puts the bundle."""
        return self.inputs.catalog.parent / "release"

    def judge(self, target: Target | None = None) -> None:
        """Run the gate."""
        folders = (self.inputs.catalog, self.inputs.variants, self.inputs.quality, self.inputs.latency)
        gate.run(target or self.target, GATE, "fp32", *folders, self.inputs.gate)

    def release(self, out: Path | None = None) -> Path:
        """Run the bundle stage and return the bundle."""
        bundle.run(self.model, self.target, self.inputs, out or self.folder)
        return out or self.folder


def start(
    folder: Path,
    base: Path,
    converted: Callable[[str], Path],
    model: Model,
    target: Target,
    project: Path,
    names: tuple[str, ...] = NAMES,
) -> Build:
    """Catalog copies of real variants and give them good figures, up to the verdict."""
    for name in names:
        shutil.copytree(converted(name), folder / "variants" / name)
    _write_data(folder)
    kinds = {name: Variant.load(folder / "variants" / name).kind for name in names}
    catalog.run(kinds, folder / "variants", folder / "catalog")
    inputs = list_inputs(folder, base, project)
    for name in names:
        write(inputs.quality, f"samples/{name}.json", samples(folder / "variants" / name))
    write(inputs.quality, "compatibility.json", {})
    write(inputs.quality, "shorter.json", {})
    write(inputs.quality, "floor.json", {f"{kind}Task": score / 4 for kind, score in SCORES.items()})
    write(inputs.quality, "scores.json", {name: scores(folder / "variants" / name) for name in names})
    write(inputs.latency, "latency.json", latency_report({name: times() for name in names}))
    for name in bundle.EVIDENCE["report"]:
        write(inputs.report, name, "a page")
    build = Build(model, target, inputs)
    build.judge()
    return build


def copy(build: Build, folder: Path, target: Target) -> Build:
    """Return a copy of a build for another target, not judged yet."""
    names = ("catalog", "variants", "data", "quality", "latency", "gate", "report")
    for name in names:
        shutil.copytree(getattr(build.inputs, name), folder / name)
    return Build(build.model, target, replace(build.inputs, **{name: folder / name for name in names}))


def list_inputs(folder: Path, base: Path, project: Path) -> bundle.BundleInputs:
    """Return a build's folders."""
    return bundle.BundleInputs(
        **{name: folder / name for name in ("catalog", "variants", "data", *bundle.EVIDENCE)},
        weights=base,
        project=project,
    )


def _write_data(folder: Path) -> None:
    """Write a data folder with the tasks that were measured."""
    tasks = [
        {
            "name": f"{kind}Task",
            "type": kind,
            "description": "A task.",
            "main_score": METRICS[kind],
            "languages": {"default": ["eng-Latn"]},
            "license": "apache-2.0",
            "reference": "urn:none",
            "package": "botocore",
            "version": "1.40",
        }
        for kind in SCORES
    ]
    (folder / "data").mkdir()
    (folder / "data" / "tasks.json").write_text(json.dumps(tasks))
    manifest.write(folder / "data", {"stage": "data", "libraries": {"botocore": "1.40"}})


def scores(variant: Path) -> dict[str, Any]:
    """Return scores like the baseline's at each of the variant's dimensions."""
    tasks = {
        f"{kind}Task": {"type": kind, "metric": METRICS[kind], "main_score": score, "samples": 100}
        for kind, score in SCORES.items()
    }
    return {str(length): tasks for length in Variant.load(variant).matryoshka}


def samples(variant: Path) -> dict[str, Any]:
    """Return per-sample values like the baseline's at each of the variant's dimensions."""
    tasks = {f"{kind}Task": {"default": {"value": [score - 0.1, score + 0.1] * 50}} for kind, score in SCORES.items()}
    return {str(length): tasks for length in Variant.load(variant).matryoshka}


def times(speedup: float = 50.0) -> dict[str, Any]:
    """Return one variant's times in latency.json."""
    ratio = dict.fromkeys(("median", "low", "high"), speedup)
    length = {"n": 60, "median_ms": 1.0, "after_pause_ms": 1.0, "speedup": ratio}
    batch = {"size": 32, "tokens": 128, "n": 10, "median_ms": 10.0, "texts_per_s": 3200.0, "tokens_per_s": 4e5}
    return {
        "lengths": {"32": length, "128": length},
        "batch": batch | {"speedup": ratio},
        "cold_start_s": {"median": 1.0, "values": [1.0]},
        "peak_rss_mb": 100.0,
    }


def seal(folder: Path) -> None:
    """Give a changed bundle a content digest and a manifest that fit, as if it had been built so."""
    record = json.loads((folder / contract.NAME).read_text())
    hashes = {name: manifest.sha256(folder / name) for name in manifest.files_of(folder)}
    (folder / contract.NAME).write_bytes(manifest.canonical(record | {"content": contract.digest_content(hashes)}))
    refit(folder)


def refit(folder: Path, **changes: Any) -> None:
    """Write a folder's manifest over the files it has now, with all else that it said; `changes` replaces parts."""
    body = json.loads((folder / manifest.NAME).read_text(encoding="utf-8"))
    fields = {key: value for key, value in body.items() if key not in ("files", "digest", "schema")}
    manifest.write(folder, fields | changes)


def write(folder: Path, name: str, content: Any) -> None:
    """Write a measuring stage's file, and a manifest that says it measured the variants beside it, or what it did."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content))
    variants = [path.parent for path in folder.parent.glob(f"variants/*/{manifest.NAME}")]
    inputs = {f"variants/{path.name}": manifest.read(path).digest for path in variants}
    if not inputs and (folder / manifest.NAME).exists():
        inputs = manifest.read(folder).inputs
    if (folder.parent / "data").is_dir():
        inputs["data"] = manifest.read(folder.parent / "data").digest
    parameters = {"latency": SETTINGS.model_dump()} if folder.name == "latency" else {}
    manifest.write(folder, {"stage": folder.name, "inputs": inputs, "parameters": parameters})


def git(folder: Path, *args: str) -> str:
    """Run git in a folder as some user, and return its output."""
    user = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    return subprocess.run(["git", *user, *args], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def refusal(folder: Path) -> str:
    """Return the one line by which a release is refused."""
    with pytest.raises(IntegrityError) as caught:
        Bundle.load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)
