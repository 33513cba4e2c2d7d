"""The export by optimum-onnx, which wants transformers 4: in an environment of its own, made on demand.

It is the second opinion on the tracing exporter, and what sentence-transformers' own ONNX backend uses. The environment
is a folder of packages put in front of the build's own; optimum.lock beside this module pins it.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from embed_foundry import manifest
from embed_foundry.errors import InputError, RetryableError

from stages.convert.graph.onnx_model import GRAPH, SENTENCE, TOKENS
from stages.convert.intermediate import load_or_make

if TYPE_CHECKING:
    from onnx import ModelProto

LOCK = Path(__file__).with_name("optimum.lock")
# What runs there: BASE OUT OPSET.
PROGRAM = """
import sys, warnings
import torch
from optimum.exporters.onnx import main_export
warnings.simplefilter("ignore", torch.jit.TracerWarning)  # parity decides whether the trace generalises
base, out, opset = sys.argv[1:]
main_export(base, out, task="feature-extraction", library_name="sentence_transformers", do_validation=False,
            opset=int(opset))
"""


def export_by_optimum(base: Path, opset: int, scratch: Path, cache: Path) -> "ModelProto":
    """Return optimum's graph of a SentenceTransformer folder, its token vectors named as ours are.

    Args:
        base: the folder.
        opset: ONNX operator set.
        scratch: an empty folder to export into.
        cache: where the environment is kept.

    Raises:
        InputError: optimum cannot export the architecture; the message carries its reason.
        RetryableError: the environment cannot be installed.
    """
    import onnx

    command = [sys.executable, "-c", PROGRAM, str(base.resolve()), str(scratch.resolve()), str(opset)]
    environment = os.environ | {"PYTHONPATH": str(prepare_environment(cache).resolve()), "HF_HUB_OFFLINE": "1"}
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if process.returncode:
        raise InputError(
            f"{base}: optimum cannot export it to ONNX ({_last_line(process.stderr)}). "
            "Leave `exporter: optimum` out of the recipe: the default exporter takes every architecture."
        )
    exported = onnx.load(str(scratch / GRAPH))
    _rename(exported, {"token_embeddings": TOKENS})
    outputs = {output.name for output in exported.graph.output}
    if not {TOKENS, SENTENCE} <= outputs:
        raise InputError(f"{base}: optimum's graph has the outputs {sorted(outputs)}; expected {TOKENS}, {SENTENCE}.")
    return exported


def prepare_environment(cache: Path) -> Path:
    """Return the folder of the packages that optimum needs and the build does not have; it is installed if missing.

    Raises:
        RetryableError: pip cannot install them; the message carries its last line.
    """
    return load_or_make(
        cache,
        "optimum",
        {"lock": manifest.sha256(LOCK), "python": f"{sys.version_info.major}.{sys.version_info.minor}"},
        code=[Path(__file__)],
        libraries=[],
        make=_install,
    )


def _install(folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--require-hashes"]
    command += ["--target", str(folder), "--requirement", str(LOCK)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        raise RetryableError(
            f"the packages of {LOCK.name} cannot be installed ({_last_line(process.stderr)}). "
            "Check the package index, and run the same command again."
        )


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no message")


def _rename(model: "ModelProto", names: dict[str, str]) -> None:
    for node in model.graph.node:
        for values in (node.input, node.output):
            for index, name in enumerate(values):
                values[index] = names.get(name, name)
    for output in model.graph.output:
        output.name = names.get(output.name, output.name)
