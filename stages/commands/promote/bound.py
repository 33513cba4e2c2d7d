"""Binding a release to its gate: a verdict on other bytes, by other limits or from another run is none."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from embed_foundry import Bundle, GateError, InputError, IntegrityError, manifest
from embed_foundry.manifest import Manifest

EVIDENCE = "evidence/verdict.json"
# Folders that both the gate and the bundle stage read.
JUDGED = ("catalog", "quality", "latency")


def require_judged(release: Path, build: Path) -> Manifest:
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
                f"{build / name}: missing; publish holds a release to the verdict of the build that made it. "
                "Publish from the clone that built it, after dvc pull catalog, or say --build FOLDER."
            )
    bundle = Bundle.load(release)
    body, gate, catalog = manifest.read(release), manifest.verify(build / "gate"), manifest.verify(build / "catalog")
    verdict = json.loads((release / EVIDENCE).read_text(encoding="utf-8")) if EVIDENCE in body.files else None
    if verdict is None:
        raise IntegrityError(f"{release}: holds no {EVIDENCE}, so nothing says that it passed. Next: dvc repro bundle.")
    for what, found, expected in _pairs(bundle, body, gate, catalog, verdict):
        if found != expected:
            raise IntegrityError(
                f"{release}: {what} is {_short(found)}, the gate judged {_short(expected)}. Nothing was published: "
                "this verdict is about something else. Next: dvc repro, then publish what it builds."
            )
    if verdict["release"]["passes"] is not True:
        raise GateError(
            f"{release}: the gate did not pass it ({verdict['release']['reason']}). Read {build / 'gate/verdict.json'}."
        )
    return body


def _pairs(
    bundle: Bundle, body: Manifest, gate: Manifest, catalog: Manifest, verdict: dict[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    """Yield what must be equal: its name, what the release says, what the gate says."""
    yield "stage", body.stage, "bundle"
    yield "verdict.json", body.hashes[EVIDENCE], gate.hashes["verdict.json"]
    yield "gate", body.inputs.get("gate"), gate.digest
    for name in JUDGED:
        yield name, body.inputs.get(name), gate.inputs.get(name)
    yield "catalog", verdict["catalog"], catalog.digest
    yield "target", bundle.raw["target"], gate.parameters["target"]
    yield "order of variants", bundle.order, verdict["release"]["passing"]
    yield "variants/", sorted(path.name for path in (bundle.folder / "variants").iterdir()), sorted(bundle.order)
    for name in bundle.order:
        shipped = manifest.verify(bundle.folder / "variants" / name).digest
        yield f"variant {name}", shipped, catalog.inputs.get(name)
        yield f"record of {name}", bundle.contract.variants[name].digest, shipped
        yield f"checks of {name}", bundle.contract.variants[name].checks, verdict["variants"][name]["checks"]


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 100 else text[:97] + "..."
