"""What a graph's matrices are fed on real text: the statistics that GPTQ rounds by."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from embed_foundry.progress import bar
from numpy.typing import NDArray

from stages.convert import graph
from stages.convert.tokenizer import BaseTokenizer

if TYPE_CHECKING:
    from onnx import ModelProto

TEXTS = Path(__file__).with_name("calibration.txt")
# Texts are truncated to this many tokens: more texts tell more than longer ones.
MAX_TOKENS = 256
# The inputs of so many texts make one product: adding up [width, width] for each text would take longer than all else.
TEXTS_PER_PRODUCT = 8


def load_token_ids(tokenizer: BaseTokenizer) -> list[list[int]]:
    """Return the token ids of the calibration texts: some without a prompt, the others with each prompt in turn."""
    lines = TEXTS.read_text(encoding="utf-8").splitlines()
    texts = [line for line in lines if not line.startswith("#")]
    prompts = ["", *sorted({*tokenizer.settings.prompts.values()})]
    prompted = [prompts[number % len(prompts)] + text for number, text in enumerate(texts)]
    return tokenizer.tokenize(prompted, min(MAX_TOKENS, tokenizer.settings.max_tokens or MAX_TOKENS))


def compute_hessians(
    model: "ModelProto", tensors: list[str], rows: list[list[int]], scratch: Path
) -> dict[str, NDArray[np.float64]]:
    """Return for each of a graph's tensors [.., width] the sum of its rows' outer products: [width, width].

    Args:
        model: the fp32 ONNX model; unchanged when this returns.
        tensors: their names.
        rows: token ids of the texts, run one at a time.
        scratch: a folder for the graph that is run.
    """
    from onnx import TensorProto, helper
    from onnx.external_data_helper import load_external_data_for_model

    outputs = {output.name for output in model.graph.output}
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors if name not in outputs
    )
    path = scratch / "observed.onnx"
    graph.save(model, path)
    load_external_data_for_model(model, str(scratch))  # saving takes large weights out of the model
    del model.graph.output[len(outputs) :]
    runner = graph.GraphRunner(path)
    hessians: dict[str, NDArray[np.float64]] = {}
    with bar("convert: calibration texts", len(rows)) as progress:
        for start in range(0, len(rows), TEXTS_PER_PRODUCT):
            texts = rows[start : start + TEXTS_PER_PRODUCT]
            values = zip(*(runner.run(tensors, [row]) for row in texts), strict=True)
            for name, arrays in zip(tensors, values, strict=True):
                inputs = np.concatenate([array.reshape(-1, array.shape[-1]) for array in arrays])
                hessians[name] = hessians.get(name, 0) + (inputs.T @ inputs).astype(np.float64)
            progress.update(len(texts))
    return hessians
