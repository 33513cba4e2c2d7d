"""Writes what sentence-transformers itself exports of a model; driven by peers.py.

    python exports.py BASE FOLDER RUNNER,…

sentence-transformers' ONNX backend needs optimum-onnx, and so transformers 4: peers.py runs this with their folder in
PYTHONPATH. The last line of output is JSON: bytes by runner, and failure by runner.
"""

import json
import shutil
import sys
from functools import lru_cache
from pathlib import Path


def export_models(base, folder, only):
    """Export a model's files to a folder; return bytes by runner, and failure by runner.

    Args:
        base: the SentenceTransformer folder.
        folder: where to; what an earlier run exported there is kept.
        only: runners to export for; empty means all.
    """
    from sentence_transformers import (
        SentenceTransformer,
        export_dynamic_quantized_onnx_model,
        export_optimized_onnx_model,
        export_static_quantized_openvino_model,
    )

    # The folder is a whole model without its weights, whichever exports are requested.
    shutil.copytree(base, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("model.safetensors"))
    for weights in base.glob("*/*.safetensors"):  # heads
        shutil.copyfile(weights, folder / weights.relative_to(base))
    # runner -> backend, file, export
    exports = {
        "st_onnx": (
            "onnx",
            "onnx/model.onnx",
            lambda model: model.save_pretrained(str(folder), create_model_card=False),
        ),
        "st_onnx_O3": (
            "onnx",
            "onnx/model_O3.onnx",
            lambda model: export_optimized_onnx_model(model, "O3", str(folder)),
        ),
        "st_onnx_int8": (
            "onnx",
            "onnx/model_qint8_avx512_vnni.onnx",
            lambda model: export_dynamic_quantized_onnx_model(model, "avx512_vnni", str(folder)),
        ),
        "st_openvino_int8": (
            "openvino",
            "openvino/openvino_model_qint8_quantized.xml",
            lambda model: export_static_quantized_openvino_model(model, None, str(folder)),
        ),
    }
    load_model = lru_cache(maxsize=1)(
        lambda backend: SentenceTransformer(str(base), backend=backend, device="cpu", model_kwargs={"export": True})
    )
    sizes, failures = {}, {}
    for runner, (backend, file, export) in exports.items():
        if only and runner not in only:
            continue
        try:
            if not (folder / file).exists():
                export(load_model(backend))
            stem = (folder / file).with_suffix("")
            sizes[runner] = sum(path.stat().st_size for path in stem.parent.glob(f"{stem.name}.*"))
        except Exception as error:
            failures[runner] = f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"
    if "st_onnx" in sizes:
        sizes["fastembed"] = sizes["st_onnx"]
    return sizes, failures


if __name__ == "__main__":
    print(json.dumps(export_models(Path(sys.argv[1]), Path(sys.argv[2]), set(filter(None, sys.argv[3].split(","))))))
