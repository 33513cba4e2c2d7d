"""The report stage: evidence and verdict in, one page out."""

from collections.abc import Mapping
from pathlib import Path

from embed_foundry import IntegrityError, manifest

from stages.common.config import Model
from stages.common.contract.output import stage_output

PAGE = "index.html"
TEXT = "verdict.txt"


def run(
    model: Model, target: str, variants: Mapping[str, Path], quality: Path, latency: Path, gate: Path, out: Path
) -> str:
    """Write the page and the table, and return the table's text.

    Args:
        model: the base model's configuration.
        target: the target's name.
        variants: name to folder of every catalogued variant.
        quality: the quality stage's folder.
        latency: the latency stage's folder.
        gate: the gate folder.
        out: the report folder.

    Raises:
        IntegrityError: an input differs from its manifest or is not what its stage writes, or the gate judged other
            inputs than these.
    """
    from stages.report import load, page, text

    inputs = {"quality": quality, "latency": latency, "gate": gate}
    parameters = {"model": model.model_dump(mode="json"), "target": target}
    libraries = ("jinja2", "matplotlib")
    with stage_output(
        out, stage="report", parameters=parameters, inputs=inputs | dict(variants), libraries=libraries
    ) as work:
        _require_judged(gate, {"quality": quality, "latency": latency})
        report = load.load_report(model, target, variants, quality, latency, gate)
        table = text.render(report)
        (work / TEXT).write_text(table, encoding="utf-8")
        (work / PAGE).write_text(page.render(report), encoding="utf-8")
    return table


def _require_judged(gate: Path, inputs: Mapping[str, Path]) -> None:
    judged = manifest.read(gate).inputs
    for name, folder in inputs.items():
        if (digest := manifest.read(folder).digest) != judged.get(name):
            raise IntegrityError(
                f"{gate}: judged {name} {judged.get(name)}, {folder} has digest {digest}. Next: dvc repro gate."
            )
