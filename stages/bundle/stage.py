"""The bundle stage: what passed the gate in, one release folder out."""

import importlib.resources
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from embed_foundry import FoundryError, bundle, contract, manifest, open_variant

from stages.bundle import android, bom, browser, card, contents, licences
from stages.bundle.inputs import EVIDENCE, BundleInputs, load_passed
from stages.bundle.npm import NpmPackage
from stages.common.config import Model, Target
from stages.common.contract.output import folder_size, stage_output
from stages.common.records.bundle import BundleRecord
from stages.common.sources import probe_texts

# Every third of the fifty probe texts is a probe, so that languages, code and numbers are among them.
PROBE_STEP = 3
# The wheel, probes, licences and descriptions, with room.
RUNTIME_BYTES = 1_000_000


def run(model: Model, target: Target, inputs: BundleInputs, out: Path) -> BundleRecord:
    """Assemble the release folder and return the record of its bundle.json.

    Args:
        model: the base model's configuration, for its licence.
        target: the target, for the threads that probes are encoded with.
        inputs: the input folders.
        out: the release folder.

    Raises:
        GateError: fewer variants passed than the target requires; the message lists every missed limit.
        IntegrityError: an input differs from its manifest, or the verdict is about other figures or another target.
    """
    try:
        return _assemble(model, target, inputs, out)
    except FoundryError as error:
        raise type(error)(f"{error}{_describe_previous(out)}") from error


def _assemble(model: Model, target: Target, inputs: BundleInputs, out: Path) -> BundleRecord:
    release = load_passed(inputs, target)
    folders = {name: getattr(inputs, name) for name in ("catalog", *EVIDENCE, "data", "weights")}
    with stage_output(
        out,
        stage="bundle",
        parameters={"target": target.name},
        inputs=folders | release.shipped,
        libraries=("hatchling",),
        needs_bytes=sum(map(folder_size, [*release.shipped.values(), inputs.catalog, inputs.report]))
        + RUNTIME_BYTES
        + (browser.BYTES if browser.is_browser(target) else 0),
    ) as work:
        for name, folder in release.shipped.items():
            shutil.copytree(folder, work / "variants" / name)
        _copy_evidence(inputs, work)
        android.write(work, release.shipped, model.app_prompts)
        packages = []
        if browser.is_browser(target):
            packages = browser.write(work, release.shipped, inputs.weights, inputs.project)
        _write_probes(work, list(release.shipped), model, target.resources.threads)
        licences.write(work, model, inputs.project, packages)
        runtime = _build_wheel(inputs.project, work / "runtime")
        content = contract.digest_content(_hash_files(work))
        record = contents.build_record(model, target, inputs, release, content=content, runtime=runtime)
        _write_descriptions(work, record, packages)
    return record


def _describe_previous(out: Path) -> str:
    """Return a sentence about the release that stays in place of the one that was not made; "" if there is none."""
    try:
        digest = manifest.read(out).digest
    except FoundryError:
        return ""
    return f" {out} still holds the previous release, digest {digest}; it is not of this build."


def _copy_evidence(inputs: BundleInputs, work: Path) -> None:
    for stage, names in EVIDENCE.items():
        for name in names:
            copy = work / "evidence" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(getattr(inputs, stage) / name, copy)
    shutil.copytree(inputs.catalog, work / contract.CATALOG)


def _write_descriptions(work: Path, record: BundleRecord, packages: Sequence[NpmPackage]) -> None:
    """Write all that describes the bundle's other files: bill of materials, card, contract, checksums."""
    (work / contract.BOM).write_text(bom.render(record, _hash_files(work), packages), encoding="utf-8")
    (work / "README.md").write_text(card.render(record), encoding="utf-8")
    (work / ".gitattributes").write_text(card.ATTRIBUTES, encoding="utf-8")
    schema = importlib.resources.files("embed_foundry").joinpath(contract.SCHEMA_FILE).read_bytes()
    contents.require_schema(record, schema)
    (work / contract.SCHEMA_FILE).write_bytes(schema)
    (work / BundleRecord.FILE).write_bytes(record.dump())
    sums = [f"{digest}  {name}\n" for name, digest in _hash_files(work).items()]
    (work / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")


def _write_probes(work: Path, order: list[str], model: Model, threads: int) -> None:
    """Write the probe texts, the longest first (state leaks from long into short ones), and each variant's vectors."""
    from safetensors.numpy import save_file

    texts = sorted(probe_texts.read_texts()[::PROBE_STEP], key=len, reverse=True)
    probes: list[tuple[str, str | None]] = [(text, None) for text in texts]
    probes += [(texts[0], prompt) for prompt in sorted(model.prompts)]
    golden = {}
    for name in order:
        encoder = open_variant(work / "variants" / name, threads)
        golden[name] = np.concatenate([encoder.encode([text], prompt=prompt) for text, prompt in probes])
    path = work / bundle.PROBES
    path.parent.mkdir()
    path.write_bytes(manifest.canonical([{"text": text, "prompt": prompt} for text, prompt in probes]))
    save_file(golden, work / bundle.GOLDEN)


def _build_wheel(project: Path, folder: Path) -> str:
    """Build the runtime's wheel into `folder`, reproducibly as hatchling does, and return its path in the bundle."""
    from hatchling.builders.wheel import WheelBuilder

    folder.mkdir()
    wheel = Path(next(iter(WheelBuilder(str(project)).build(directory=str(folder), versions=["standard"]))))
    return f"runtime/{wheel.name}"


def _hash_files(work: Path) -> dict[str, str]:
    """Return the files written so far: name -> SHA-256."""
    return {name: manifest.sha256(work / name) for name in manifest.files_of(work)}
