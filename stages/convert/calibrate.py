"""What a graph's matrices are fed on real text: the statistics that GPTQ rounds by."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.common.intake import read_object
from stages.common.progress import bar
from stages.convert import THREADS, graph

TEXTS = Path(__file__).with_name("calibration.txt")
# Longer calibration texts are cut: more texts tell more than longer ones.
TOKENS = 256


def token_ids(base: Path) -> list[list[int]]:
    """Return the calibration texts as token ids, under the model's own prompts in turn, some under none."""
    from tokenizers import Tokenizer

    lines = TEXTS.read_text(encoding="utf-8").splitlines()
    texts = [line for line in lines if not line.startswith("#")]
    settings = base / "config_sentence_transformers.json"
    found = read_object(settings).get("prompts") if settings.exists() else None
    prompts = ["", *sorted(set((found or {}).values()) - {""})]
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(TOKENS)
    return [tokenizer.encode(prompts[at % len(prompts)] + text).ids for at, text in enumerate(texts)]


def hessians(exported: Any, tensors: list[str], rows: list[list[int]], scratch: Path) -> dict[str, NDArray[np.float64]]:  # noqa: ANN401
    """Return for each of a graph's tensors [.., width] the sum of its rows' outer products: [width, width].

    Args:
        exported: the fp32 onnx model; the tensors become outputs of it.
        tensors: their names.
        rows: token ids of the texts, run one at a time.
        scratch: a folder for the graph that is run.
    """
    import onnxruntime
    from onnx import TensorProto, helper

    probed = type(exported)()
    probed.CopyFrom(exported)
    known = {item.name for item in probed.graph.output}
    probed.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors if name not in known
    )
    graph.save(probed, scratch / "probed.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(str(scratch / "probed.onnx"), options, providers=["CPUExecutionProvider"])
    wanted = [item.name for item in session.get_inputs()]
    sums: dict[str, NDArray[np.float64]] = {}
    with bar("calibration", len(rows)) as progress:
        for row in rows:
            ids = np.array([row], dtype=np.int64)
            feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
            found = session.run(tensors, {name: feeds[name] for name in wanted})
            for name, value in zip(tensors, found, strict=True):
                flat = value.reshape(-1, value.shape[-1])
                sums[name] = sums.get(name, 0) + (flat.T @ flat).astype(np.float64)
            progress.update(1)
    return sums
