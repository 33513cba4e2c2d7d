"""Every architecture through every kind, as a Markdown table: how near each variant is to sentence-transformers.

    python tests/benchmarks/architectures.py        # writes docs/architectures.md

Models are tiny and their weights random. Ten minutes on two cores.
"""

import sys
import tempfile
import warnings
from pathlib import Path

import yaml
from embed_foundry import FoundryError, manifest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stages import convert
from stages.commands import compose
from stages.common import config
from stages.common.records.base import Failure
from stages.common.records.parity import parity_of
from support import architectures

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "architectures.md"
KINDS = [
    "fp32",
    "onnx_fp32",
    "openvino_fp32",
    "tflite_fp32",
    "onnx_int8",
    "onnx_q8",
    "onnx_q4",
    "openvino_int8",
    "torch_int8",
    "tflite_int8",
    "static",
]
HEADER = """# Architectures

`python tests/benchmarks/architectures.py` wrote this table, with tiny models of random weights in each architecture:
{texts} hard texts (capitals, many scripts, quoted special tokens, over the token limit) by every kind of variant.

- *exact*: the token ids of sentence-transformers, and vectors at most 0.001 (L2) from its own.
- *0.98*: the same token ids; the number is the least cosine to its vectors over 50 texts. What else is in a batch
  moves no vector by 0.001.
- *own space*: a table of tokens, whose vectors are compared with each other only.

"""


def main() -> None:
    """Convert everything and write the page."""
    warnings.simplefilter("ignore")
    overrides = [f"variant=[{','.join(KINDS)}]", "variants.static.dimensions=32", "variants.static.fit.texts=1000"]
    params = config.parse(yaml.safe_load(compose.compose(overrides, ROOT / "conf")), "conf/")
    model = params.model.model_copy(update=architectures.SETTINGS)
    rows, texts = [], set()
    with tempfile.TemporaryDirectory() as scratch:
        for name in architectures.ARCHITECTURES:
            base = architectures.build(name, Path(scratch, name))
            manifest.write(base, {"stage": "download"})
            cells = []
            for kind in KINDS:
                cell, count = judge(base, kind, params.variants[kind], model, Path(scratch))
                cells.append(cell)
                texts.add(count)
                print(f"{name} {kind}: {cell}", file=sys.stderr, flush=True)
            rows.append(f"| {name} | " + " | ".join(cells) + " |")
    heading = "| | " + " | ".join(f"`{kind}`" for kind in KINDS) + " |"
    table = [heading, "|---" * (len(KINDS) + 1) + "|", *rows, ""]
    PAGE.write_text(HEADER.format(texts=max(texts)) + "\n".join(table), encoding="utf-8")


def judge(base, kind, recipe, model, scratch):
    """Return a cell of the table, and how many hard texts were compared."""
    try:
        out = scratch / "variants" / f"{base.name}.{kind}"
        parity = parity_of(convert.run(kind, recipe, model, base, out, cache=scratch / "cache"))
    except FoundryError as error:
        return f"refused: {error}", 0
    if isinstance(parity, Failure):
        return f"**wrong**: {parity.error}", 0
    if parity.batch_shift_max >= 1e-3:
        return f"**depends on its batch** ({parity.batch_shift_max:.2g})", 0
    if parity.cosine_min is None:
        return "own space", 0
    exact = parity.hard_l2_max < 1e-3
    return "exact" if exact else f"{parity.cosine_min:.2f}", parity.hard_texts


if __name__ == "__main__":
    main()
