"""The folders that a bundle is made from: verified, about each other, and passed by the gate."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embed_foundry import GateError, IntegrityError, manifest

from stages.common.config import Target
from stages.common.records.catalog import load_catalogued_variants
from stages.common.records.evidence import Evidence
from stages.common.records.verdict import Verdict

# Stage -> which of its files go into the bundle's evidence/.
EVIDENCE = {
    "quality": ("scores.json", "compatibility.json"),
    "latency": ("latency.json",),
    "gate": ("verdict.json", "metrics.json"),
    "report": ("index.html",),
}


@dataclass(frozen=True)
class BundleInputs:
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


@dataclass(frozen=True)
class PassedRelease:
    """What passed the gate.

    Attributes:
        shipped: name -> folder of the variants that passed, in the target's order.
        evidence: what was measured of all variants.
        verdict: what the gate decided.
    """

    shipped: dict[str, Path]
    evidence: Evidence
    verdict: Verdict


def load_passed(inputs: BundleInputs, target: Target) -> PassedRelease:
    """Verify the inputs and return what passed the gate.

    Raises:
        GateError: fewer variants passed than the target requires; the message lists every missed limit.
        IntegrityError: an input differs from its manifest, or the verdict is about other figures or another target.
    """
    folders = load_catalogued_variants(inputs.catalog, inputs.variants)
    for name in ("catalog", *EVIDENCE):
        manifest.verify(getattr(inputs, name))
    _require_same_figures(inputs, target)
    verdict = Verdict.load(inputs.gate / Verdict.FILE)
    _require_passed(verdict)
    shipped = {name: folders[name] for name in verdict.release.passing}
    _require_same_sources(inputs, shipped)
    return PassedRelease(shipped, Evidence.load(folders, inputs.quality, inputs.latency), verdict)


def _require_same_figures(inputs: BundleInputs, target: Target) -> None:
    """Check that the gate judged these very figures, by these very limits."""
    gate = manifest.read(inputs.gate)
    for name, judged in gate.inputs.items():
        if (digest := manifest.read(getattr(inputs, name)).digest) != judged:
            raise IntegrityError(f"{inputs.gate}: is about {name} {judged}, found {digest}. Next: dvc repro gate.")
    if gate.parameters["target"] != target.model_dump(mode="json"):
        raise IntegrityError(f"{inputs.gate}: was judged by limits that are not {target.name}'s. Next: dvc repro gate.")


def _require_same_sources(inputs: BundleInputs, shipped: Mapping[str, Path]) -> None:
    """Check that the variants were made from these weights and measured on this data."""
    weights, data = manifest.read(inputs.weights).digest, manifest.read(inputs.data).digest
    for name, folder in shipped.items():
        if weights not in manifest.read(folder).inputs.values():
            raise IntegrityError(f"{folder}: was not made from {inputs.weights}. Next: dvc repro convert@{name}.")
    for folder in (inputs.quality, inputs.latency):
        if (measured := manifest.read(folder).inputs.get("data")) != data:
            raise IntegrityError(
                f"{folder}: was measured on data {measured}, found {data}. Next: dvc repro {folder.name}."
            )


def _require_passed(verdict: Verdict) -> None:
    if not verdict.release.passes:
        missed = [
            f"  {name}: {reason}"
            for name, variant in verdict.variants.items()
            if variant.candidate
            for reason in variant.reasons
        ]
        raise GateError(
            f"no release for {verdict.target}: {verdict.release.reason}.\n"
            + "\n".join(missed)
            + "\nNext: read gate/verdict.json; change a recipe in conf/variant or, knowingly, a limit in conf/target."
        )
