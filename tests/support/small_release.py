"""A release as the build assembles it: real variants, the real gate and bundle, figures that meet every limit."""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embed_foundry import Variant, contract, manifest

from stages import bundle, catalog, gate
from stages.common.config import Gate, Model, Target
from support.gate_facts import latency_report

NAMES = ("fp32", "onnx_fp32", "onnx_int8", "static")
# What ships of them, in the target's order.
ORDER = ["onnx_int8", "onnx_fp32", "static"]
GATE = Gate(confidence=0.95, resamples=1000, seed=0, mixed_index_min=0.95)
# As the latency stage records it, for a machine that is nowhere.
MEASURED = latency_report({})
TASKS = {"Retrieval": 0.6, "Classification": 0.8, "Clustering": 0.4, "BitextMining": 0.3, "STS": 0.7}


@dataclass(frozen=True)
class Build:
    """A build's folders and configuration, up to the release."""

    model: Model
    target: Target
    sources: bundle.Sources

    @property
    def folder(self) -> Path:
        """Return where `release` puts the bundle."""
        return self.sources.catalog.parent / "release"

    def judge(self, target: Target | None = None) -> None:
        """Run the gate."""
        it = self.sources
        gate.run(target or self.target, GATE, "fp32", it.catalog, it.variants, it.quality, it.latency, it.gate)

    def release(self, out: Path | None = None) -> Path:
        """Run the bundle stage and return the bundle."""
        bundle.run(self.model, self.target, self.sources, out or self.folder)
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
    """Catalog copies of real variants and measure them well, up to the verdict."""
    for name in names:
        shutil.copytree(converted(name), folder / "variants" / name)
    _write_data(folder)
    catalog.run(names, folder / "variants", folder / "catalog")
    sources = bundle.Sources(
        **{name: folder / name for name in ("catalog", "variants", "data", *bundle.EVIDENCE)},
        weights=base,
        project=project,
    )
    for name in names:
        write(sources.quality, f"samples/{name}.json", samples(folder / "variants" / name))
    write(sources.quality, "compatibility.json", {})
    write(sources.quality, "shorter.json", {})
    write(sources.quality, "floor.json", {f"{kind}Task": score / 4 for kind, score in TASKS.items()})
    write(sources.quality, "scores.json", {name: scores(folder / "variants" / name) for name in names})
    write(sources.latency, "latency.json", MEASURED | {"variants": {name: times() for name in names}})
    for name in bundle.EVIDENCE["report"]:
        write(sources.report, name, "a page")
    build = Build(model, target, sources)
    build.judge()
    return build


def _write_data(folder: Path) -> None:
    """Write a data folder with what bundle.json tells of it."""
    tasks = [
        {"name": f"{kind}Task", "type": kind, "version": "1", "license": "apache-2.0", "reference": "urn:none"}
        for kind in TASKS
    ]
    (folder / "data").mkdir()
    (folder / "data" / "tasks.json").write_text(json.dumps(tasks))
    manifest.write(folder / "data", {"stage": "data", "libraries": {"botocore": "1.40"}})


def scores(variant: Path) -> dict[str, Any]:
    """Return scores like the baseline's at the variant's full dimension."""
    tasks = {
        f"{kind}Task": {"type": kind, "metric": "main_score", "main_score": score, "samples": 100}
        for kind, score in TASKS.items()
    }
    return {str(Variant.load(variant).dimensions): tasks}


def samples(variant: Path) -> dict[str, Any]:
    """Return per-sample values like the baseline's at the variant's full dimension."""
    tasks = {f"{kind}Task": {"default": {"value": [score - 0.1, score + 0.1] * 50}} for kind, score in TASKS.items()}
    return {str(Variant.load(variant).dimensions): tasks}


def times(speedup: float = 50.0) -> dict[str, Any]:
    """Return the times of a fast variant."""
    ratio = dict.fromkeys(("median", "low", "high"), speedup)
    length = {"speedup": ratio, "median_ms": 1.0, "after_pause_ms": 1.0, "n": 60}
    batch = {"size": 32, "tokens": 128, "n": 10, "speedup": ratio, "median_ms": 1.0}
    return {
        "batch": batch | {"texts_per_s": 32000.0, "tokens_per_s": 4096000.0},
        "lengths": dict.fromkeys(("32", "128"), length),
        "cold_start_s": {"median": 1.0, "values": [1.0]},
        "peak_rss_mb": 100.0,
    }


def seal(folder: Path) -> None:
    """Give a changed bundle a content digest and a manifest that fit, as if it had been built so."""
    told = json.loads((folder / contract.NAME).read_text())
    hashes = {name: manifest.sha256(folder / name) for name in manifest.files_of(folder)}
    (folder / contract.NAME).write_bytes(manifest.canonical(told | {"content": contract.content(hashes)}))
    refit(folder)


def refit(folder: Path, **changes: Any) -> None:
    """Write a folder's manifest over the files it has now, with all else that it said, or says now."""
    known = json.loads((folder / manifest.NAME).read_text(encoding="utf-8"))
    facts = {key: value for key, value in known.items() if key not in ("files", "digest", "schema")}
    manifest.write(folder, facts | changes)


def write(folder: Path, name: str, content: Any) -> None:
    """Write a measuring stage's file and its manifest: it measured the variants beside it, or what it did before."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content))
    variants = [path.parent for path in folder.parent.glob(f"variants/*/{manifest.NAME}")]
    inputs = {f"variants/{path.name}": manifest.read(path).digest for path in variants}
    if not inputs and (folder / manifest.NAME).exists():
        inputs = manifest.read(folder).inputs
    if (folder.parent / "data").is_dir():
        inputs["data"] = manifest.read(folder.parent / "data").digest
    manifest.write(folder, {"stage": folder.name, "inputs": inputs})


def git(folder: Path, *args: str) -> str:
    """Run git in a folder, as somebody, and return what it says."""
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    return subprocess.run(["git", *who, *args], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
