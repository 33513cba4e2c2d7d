"""bundle: the passing variants, with everything needed to trust and run them, as one folder.

In: catalog/, variants/, quality/, latency/, gate/, report/, the runtime's source.
Out: release/: bundle.json, variants/, probes/ with golden vectors, evidence/, runtime/ (the wheel), LICENSE, NOTICE,
SHA256SUMS, manifest.json.
Fails: 3 an input differs from its manifest or the verdict is about other bytes, 4 the gate did not pass.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from embed_foundry import GateError, IntegrityError, Variant, bundle, manifest, open_variant

from stages.common import catalog as catalogs
from stages.common import config, texts
from stages.common.artifact import publish, run_stage
from stages.common.config import Model, Target

# Probes a prompt-less text is drawn from: every third of the fifty, so that languages, code and numbers are among them.
PROBE_STEP = 3
EVIDENCE = {
    "quality": ("scores.json",),
    "latency": ("latency.json",),
    "gate": ("verdict.json", "metrics.json"),
    "report": ("index.html",),
}


@dataclass(frozen=True)
class Sources:
    """The folders a bundle is made from; `project` is the repository root with the runtime's source and LICENSE."""

    catalog: Path
    variants: Path
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
    folders = catalogs.listed(sources.catalog, sources.variants)
    inputs = {name: getattr(sources, name) for name in ("catalog", *EVIDENCE)}
    for folder in inputs.values():
        manifest.verify(folder)
    verdict = json.loads((sources.gate / "verdict.json").read_text(encoding="utf-8"))
    _require_same(sources, target)
    _require_passed(verdict)
    order = verdict["release"]["passing"]
    inputs |= {name: folders[name] for name in order}
    with publish(
        out, stage="bundle", parameters={"target": target.name}, inputs=inputs, libraries=("hatchling",)
    ) as work:
        for name in order:
            shutil.copytree(folders[name], work / "variants" / name)
        for stage, names in EVIDENCE.items():
            for name in names:
                _copy(getattr(sources, stage) / name, work / "evidence" / name)
        _write_probes(work, order, model, target.resources.threads)
        _write_licences(work, model, sources.project)
        facts = {
            "schema": bundle.SCHEMA,
            "model": {"name": model.name, "repo": model.repo, "revision": model.revision},
            "license": model.license.model_dump(),
            "target": target.model_dump(mode="json"),
            "order": order,
            "variants": {name: _summary(folders[name], verdict) for name in order},
            "runtime": _wheel(sources.project, work / "runtime"),
        }
        (work / bundle.NAME).write_bytes(manifest.canonical(facts))
        sums = [f"{manifest.sha256(work / name)}  {name}\n" for name in manifest.files_of(work)]
        (work / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
    return facts


def _require_same(sources: Sources, target: Target) -> None:
    """Check that the gate judged these very figures, by these very limits."""
    gate = manifest.read(sources.gate)
    for name, judged in gate["inputs"].items():
        if (found := manifest.read(getattr(sources, name))["digest"]) != judged:
            raise IntegrityError(f"{sources.gate}: is about {name} {judged}, this is {found}. Next: dvc repro gate.")
    if gate["parameters"]["target"] != target.model_dump(mode="json"):
        raise IntegrityError(f"{sources.gate}: is about other limits than {target.name}'s. Next: dvc repro gate.")


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


def _summary(folder: Path, verdict: dict[str, Any]) -> dict[str, Any]:
    variant = Variant.load(folder)
    return {
        "digest": manifest.read(folder)["digest"],
        "kind": variant.kind,
        "precision": variant.precision,
        "space_id": verdict["variants"][variant.name]["space_id"],
        "dimensions": variant.dimensions,
        "checks": verdict["variants"][variant.name]["checks"],
    }


def _write_probes(work: Path, order: list[str], model: Model, threads: int) -> None:
    """Write the probe texts, the longest first (short after long is where state leaks), and each variant's vectors."""
    from safetensors.numpy import save_file

    chosen = sorted(texts.texts()[::PROBE_STEP], key=len, reverse=True)
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


def _write_licences(work: Path, model: Model, project: Path) -> None:
    _copy(project / "LICENSE", work / "LICENSE")
    (work / "NOTICE").write_text(
        f"The variants in this bundle are derived from {model.repo} at revision {model.revision},\n"
        f"licensed under {model.license.name} ({model.license.url}). They are modified: converted and, where their\n"
        "variant.json says so, quantised or distilled. The runtime in runtime/ is under Apache-2.0 (LICENSE).\n",
        encoding="utf-8",
    )


def _wheel(project: Path, folder: Path) -> str:
    """Build the runtime's wheel into `folder`, reproducibly as hatchling does, and return its path in the bundle."""
    from hatchling.builders.wheel import WheelBuilder

    folder.mkdir()
    built = Path(next(iter(WheelBuilder(str(project)).build(directory=str(folder), versions=["standard"]))))
    return f"runtime/{built.name}"


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _main() -> None:
    params = config.load()
    folders = {name: Path(name) for name in ("catalog", "variants", *EVIDENCE)}
    run(params.model, params.target, Sources(**folders, project=Path()), Path("release"))


if __name__ == "__main__":
    run_stage(_main)
