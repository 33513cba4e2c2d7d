"""What a graph's matrices are fed on real text: the statistics that GPTQ rounds by."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.common.contract.progress import bar
from stages.common.sources.intake import read_object
from stages.convert import graph
from stages.convert.tokenizer import TOKENIZER

TEXTS = Path(__file__).with_name("calibration.txt")
# Longer calibration texts are cut: more texts tell more than longer ones.
TOKENS = 256


def token_ids(base: Path) -> list[list[int]]:
    """Return the calibration texts as token ids, under the model's own prompts in turn, some under none."""
    lines = TEXTS.read_text(encoding="utf-8").splitlines()
    texts = [line for line in lines if not line.startswith("#")]
    turns = ["", *sorted(set(prompts(base).values()) - {""})]
    return encoded(base, [turns[at % len(turns)] + text for at, text in enumerate(texts)])


def prompts(base: Path) -> dict[str, str]:
    """Return the prompts of a SentenceTransformer folder, by name."""
    settings = base / "config_sentence_transformers.json"
    return (read_object(settings).get("prompts") if settings.exists() else None) or {}


def encoded(base: Path, texts: list[str]) -> list[list[int]]:
    """Return the base model's token ids of texts, special ones included, cut at `TOKENS`."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(base / TOKENIZER))
    tokenizer.no_padding()
    tokenizer.enable_truncation(TOKENS)
    return [item.ids for item in tokenizer.encode_batch_fast(texts)]


def hessians(exported: Any, tensors: list[str], rows: list[list[int]], scratch: Path) -> dict[str, NDArray[np.float64]]:  # noqa: ANN401
    """Return for each of a graph's tensors [.., width] the sum of its rows' outer products: [width, width].

    Args:
        exported: the fp32 onnx model; the tensors become outputs of it.
        tensors: their names.
        rows: token ids of the texts, run one at a time.
        scratch: a folder for the graph that is run.
    """
    from onnx import TensorProto, helper

    probed = type(exported)()
    probed.CopyFrom(exported)
    known = {item.name for item in probed.graph.output}
    probed.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors if name not in known
    )
    run = graph.runner(probed, scratch)
    sums: dict[str, NDArray[np.float64]] = {}
    with bar("calibration", len(rows)) as progress:
        for row in rows:
            for name, value in zip(tensors, run(tensors, [row]), strict=True):
                flat = value.reshape(-1, value.shape[-1])
                sums[name] = sums.get(name, 0) + (flat.T @ flat).astype(np.float64)
            progress.update(1)
    return sums
