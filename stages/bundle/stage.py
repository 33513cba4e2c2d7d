"""The bundle stage: what passed the gate in, one release folder out."""

import importlib.resources
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from embed_foundry import GateError, IntegrityError, bundle, contract, manifest, open_variant

from stages.bundle import android, bom, card, facts, licences
from stages.common.config import Model, Target
from stages.common.contract.output import stage_output
from stages.common.records.catalog import load_catalogued_variants
from stages.common.sources import probe_texts

# Probes a prompt-less text is drawn from: every third of the fifty, so that languages, code and numbers are among them.
PROBE_STEP = 3
EVIDENCE = {
    "quality": ("scores.json", "compatibility.json"),
    "latency": ("latency.json",),
    "gate": ("verdict.json", "metrics.json"),
    "report": ("index.html",),
}


@dataclass(frozen=True)
class Sources:
    """The folders a bundle is made from.

    Attributes:
        weights: what the conversions started from: the base model, or a fine-tuned one.
        project: the repository root, with the runtime's source, LICENSE and requirements.lock.
    """

    catalog: Path
    variants: Path
    data: Path
    weights: Path
    quality: Path
    latency: Path
    gate: Path
    report: Path
    project: Path


def run(model: Model, target: Target, sources: Sources, out: Path) -> dict[str, Any]:
    """Assemble the release folder and return the content of bundle.json.

    Args:
        model: the base model's configuration, for its licence.
        target: the target, for the threads that probes are encoded with.
        sources: the input folders.
        out: the release folder.

    Raises:
        GateError: fewer variants passed than the target requires; the message lists every missed limit.
        IntegrityError: an input differs from its manifest, or the verdict is about other figures or another target.
    """
    folders = load_catalogued_variants(sources.catalog, sources.variants)
    inputs = {name: getattr(sources, name) for name in ("catalog", *EVIDENCE)}
    for folder in inputs.values():
        manifest.verify(folder)
    verdict = json.loads((sources.gate / "verdict.json").read_text(encoding="utf-8"))
    _require_same(sources, target)
    _require_passed(verdict)
    order = verdict["release"]["passing"]
    shipped = {name: folders[name] for name in order}
    _require_sources(sources, shipped)
    inputs |= shipped | {"data": sources.data, "weights": sources.weights}
    with stage_output(
        out, stage="bundle", parameters={"target": target.name}, inputs=inputs, libraries=("hatchling",)
    ) as work:
        for name, folder in shipped.items():
            shutil.copytree(folder, work / "variants" / name)
        for stage, names in EVIDENCE.items():
            for name in names:
                _copy(getattr(sources, stage) / name, work / "evidence" / name)
        shutil.copytree(sources.catalog, work / contract.CATALOG)
        android.write(work, shipped)
        _write_probes(work, order, model, target.resources.threads)
        licences.write(work, model, sources.project)
        wheel = _wheel(sources.project, work / "runtime")
        told = facts.gather(model, target, sources, shipped, verdict) | {"runtime": wheel}
        told["content"] = contract.content(_hashes(work))
        (work / contract.BOM).write_text(bom.render(told, _hashes(work)), encoding="utf-8")
        (work / "README.md").write_text(card.render(told), encoding="utf-8")
        (work / ".gitattributes").write_text(card.ATTRIBUTES, encoding="utf-8")
        schema = importlib.resources.files("embed_foundry").joinpath(contract.SCHEMA_FILE).read_bytes()
        facts.validate(told, schema)
        (work / contract.SCHEMA_FILE).write_bytes(schema)
        (work / contract.NAME).write_bytes(manifest.canonical(told))
        sums = [f"{digest}  {name}\n" for name, digest in _hashes(work).items()]
        (work / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
    return told


def _require_same(sources: Sources, target: Target) -> None:
    """Check that the gate judged these very figures, by these very limits."""
    gate = manifest.read(sources.gate)
    for name, judged in gate.inputs.items():
        if (found := manifest.read(getattr(sources, name)).digest) != judged:
            raise IntegrityError(f"{sources.gate}: is about {name} {judged}, this is {found}. Next: dvc repro gate.")
    if gate.parameters["target"] != target.model_dump(mode="json"):
        raise IntegrityError(f"{sources.gate}: is about other limits than {target.name}'s. Next: dvc repro gate.")


def _require_sources(sources: Sources, shipped: dict[str, Path]) -> None:
    """Check that the weights and the data are those that variants were made from and measured on."""
    weights, data = manifest.read(sources.weights).digest, manifest.read(sources.data).digest
    for name, folder in shipped.items():
        if weights not in manifest.read(folder).inputs.values():
            raise IntegrityError(f"{folder}: was not made from {sources.weights}. Next: dvc repro convert@{name}.")
    for folder in (sources.quality, sources.latency):
        if (found := manifest.read(folder).inputs.get("data")) != data:
            raise IntegrityError(
                f"{folder}: was measured on data {found}, this is {data}. Next: dvc repro {folder.name}."
            )


def _require_passed(verdict: dict[str, Any]) -> None:
    if not verdict["release"]["passes"]:
        faults = [
            f"  {name}: {reason}"
            for name, judged in verdict["variants"].items()
            if judged["candidate"]
            for reason in judged["reasons"]
        ]
        raise GateError(
            f"no release for {verdict['target']}: {verdict['release']['reason']}.\n"
            + "\n".join(faults)
            + "\nNext: read gate/verdict.json; change a recipe in conf/variant or, knowingly, a limit in conf/target."
        )


def _write_probes(work: Path, order: list[str], model: Model, threads: int) -> None:
    """Write the probe texts, the longest first (short after long is where state leaks), and each variant's vectors."""
    from safetensors.numpy import save_file

    chosen = sorted(probe_texts.read_texts()[::PROBE_STEP], key=len, reverse=True)
    probes: list[dict[str, str | None]] = [{"text": text, "prompt": None} for text in chosen]
    probes += [{"text": chosen[0], "prompt": prompt} for prompt in sorted(model.prompts)]
    golden = {}
    for name in order:
        encoder = open_variant(work / "variants" / name, threads)
        golden[name] = np.concatenate([encoder.encode([str(item["text"])], prompt=item["prompt"]) for item in probes])
    path = work / bundle.PROBES
    path.parent.mkdir()
    path.write_bytes(manifest.canonical(probes))
    save_file(golden, work / bundle.GOLDEN)


def _wheel(project: Path, folder: Path) -> str:
    """Build the runtime's wheel into `folder`, reproducibly as hatchling does, and return its path in the bundle."""
    from hatchling.builders.wheel import WheelBuilder

    folder.mkdir()
    built = Path(next(iter(WheelBuilder(str(project)).build(directory=str(folder), versions=["standard"]))))
    return f"runtime/{built.name}"


def _hashes(work: Path) -> dict[str, str]:
    """Return the files written so far: name -> SHA-256."""
    return {name: manifest.sha256(work / name) for name in manifest.files_of(work)}


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
