"""Runs a model with one library in a process of its own: `python peer.py RUNNER BASE FOLDER`, driven by peers.py.

RUNNER is a key of RUNNERS; `variant` opens FOLDER with our runtime. The first line of output is {"ready": seconds from
import to first vector}. Each line of input, {"texts": [...]}, is answered by {"ms": …}, and the vectors if requested.
"""

import json
import os
import sys
import time
from pathlib import Path

STARTED = time.perf_counter()
THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))


def sentence_transformers(base, folder, **arguments):
    """The model as most users run it; backend and file select one of the library's own exports."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(THREADS)
    model = SentenceTransformer(str(folder if "backend" in arguments else base), device="cpu", **arguments)
    model.prompts = {}
    return lambda texts: model.encode(texts, batch_size=len(texts), normalize_embeddings=True, show_progress_bar=False)


def onnx_backend(file):
    """Return a runner for sentence-transformers' ONNX backend with `file` of its folder."""

    def run(base, folder):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        settings = {"file_name": file, "provider": "CPUExecutionProvider", "session_options": options}
        return sentence_transformers(base, folder, backend="onnx", model_kwargs=settings)

    return run


def openvino_backend(file):
    """Return a runner for sentence-transformers' OpenVINO backend with `file` of its folder; needs optimum-intel."""

    def run(base, folder):
        settings = {"file_name": file, "ov_config": {"INFERENCE_NUM_THREADS": str(THREADS)}}
        return sentence_transformers(base, folder, backend="openvino", model_kwargs=settings)

    return run


def fastembed(base, folder):
    """As fastembed runs a custom model: onnxruntime's last_hidden_state, mean and norm in numpy (no heads)."""
    import numpy as np
    import onnxruntime
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(
        str(folder / "onnx" / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.enable_padding()
    input_names = [node.name for node in session.get_inputs()]

    def encode(texts):
        encodings = tokenizer.encode_batch(texts)
        ids = np.array([encoding.ids for encoding in encodings], dtype=np.int64)
        mask = np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64)
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        tokens = session.run(None, {name: feeds[name] for name in input_names})[0]
        pooled = (tokens * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)

    return encode


def variant(_base, folder):
    """One of our variants, with the runtime that ships."""
    from embed_foundry import open_variant

    encoder = open_variant(folder, THREADS)
    return lambda texts: encoder.encode(texts, batch_size=len(texts))


RUNNERS = {
    "torch": sentence_transformers,
    "st_onnx": onnx_backend("onnx/model.onnx"),
    "st_onnx_O3": onnx_backend("onnx/model_O3.onnx"),
    "st_onnx_int8": onnx_backend("onnx/model_qint8_avx512_vnni.onnx"),
    "st_openvino_int8": openvino_backend("openvino/openvino_model_qint8_quantized.xml"),
    "fastembed": fastembed,
    "variant": variant,
}


def main(runner, base, folder):
    """Answer requests on standard input."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    encode = RUNNERS[runner](Path(base), Path(folder))
    encode(["What is the capital of France?"])
    print(json.dumps({"ready": time.perf_counter() - STARTED}), file=out, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        start = time.perf_counter_ns()
        vectors = encode(request["texts"])
        answer = {"ms": (time.perf_counter_ns() - start) / 1e6}
        if request.get("vectors"):
            answer["vectors"] = vectors.tolist()
        if request.get("rss"):
            status = Path("/proc/self/status").read_text()
            answer["rss"] = int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
