"""Binds a release to its gate: a verdict on other bytes, by other limits or from another run does not count."""

from collections.abc import Iterator
from pathlib import Path

from embed_foundry import Bundle, GateError, InputError, IntegrityError, contract, manifest
from embed_foundry.manifest import Manifest

from stages.common.records.verdict import Verdict

# Folders that both the gate and the bundle stage read.
JUDGED = ("catalog", "quality", "latency")


def require_passing_verdict(release: Path, build: Path) -> Manifest:
    """Check that the gate passed exactly these bytes and return the release's manifest.

    Args:
        release: the release folder; every byte of it is checked.
        build: the folder with gate/ (in git) and catalog/ (in DVC) of the build that made it.

    Raises:
        InputError: a folder is missing.
        GateError: the verdict refuses the release.
        IntegrityError: a file differs from its manifest, or the verdict is about other bytes or limits.
    """
    for name in ("gate", "catalog"):
        if not (build / name).is_dir():
            raise InputError(
                f"{build / name}: missing; publish compares a release with the verdict of the build that made it. "
                "Publish from the clone that built it, after dvc pull catalog, or pass --build FOLDER."
            )
    bundle = Bundle.load(release)
    body, gate, catalog = manifest.read(release), manifest.verify(build / "gate"), manifest.verify(build / "catalog")
    verdict = Verdict.load(release / contract.VERDICT)
    for name, released, judged in _compare(bundle, body, gate, catalog, verdict):
        if released != judged:
            raise IntegrityError(
                f"{release}: {name} is {_shorten(released)}, the gate judged {_shorten(judged)}. Nothing was "
                "published: this verdict is about another build. Next: dvc repro, then publish its release."
            )
    if not verdict.release.passes:
        raise GateError(
            f"{release}: the gate did not pass it ({verdict.release.reason}). Read {build / 'gate' / Verdict.FILE}."
        )
    return body


def _compare(
    bundle: Bundle, body: Manifest, gate: Manifest, catalog: Manifest, verdict: Verdict
) -> Iterator[tuple[str, object, object]]:
    """Yield what must be equal: its name, what the release says, what the gate says."""
    variants = bundle.folder / "variants"
    shipped_names = {name.split("/")[1] for name in body.files if name.startswith("variants/")}
    yield "stage", body.stage, "bundle"
    yield "verdict.json", body.hashes[contract.VERDICT], gate.hashes[Verdict.FILE]
    yield "gate", body.inputs.get("gate"), gate.digest
    for name in JUDGED:
        yield name, body.inputs.get(name), gate.inputs.get(name)
    yield "catalog", verdict.catalog, catalog.digest
    yield "target", bundle.raw["target"], gate.parameters["target"]
    yield "order of variants", bundle.order, verdict.release.passing
    yield "variants/", sorted(shipped_names), sorted(bundle.order)
    for name in bundle.order:
        shipped = manifest.verify(variants / name).digest
        yield f"variant {name}", shipped, catalog.inputs.get(name)
        yield f"record of {name}", bundle.contract.variants[name].digest, shipped
        checks = [check.model_dump(mode="json") for check in verdict.variants[name].checks]
        yield f"checks of {name}", bundle.contract.variants[name].checks, checks


def _shorten(value: object) -> str:
    text = str(value)
    return text if len(text) <= 100 else text[:97] + "..."
