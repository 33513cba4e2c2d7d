"""OpenVINO encoder. Outputs and inputs are addressed by name, never by position."""

import threading
from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray

from .encoder import GraphEncoder, Vectors
from .errors import IntegrityError

OUTPUT = "sentence_embedding"


class OpenvinoEncoder(GraphEncoder):
    """Runs a graph that pools and normalises itself: int64 input_ids, attention_mask [b, s] -> sentence_embedding."""

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        super().__init__(folder, threads)
        path = folder / self.variant.files["graph"]
        core = openvino.Core()
        # Asked for explicitly, whatever this OpenVINO's default is: a variant must not change with the host's library.
        precision = str(self.variant.recipe.get("inference_precision", "f32"))
        if precision.upper() not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            precision = "f32"
        compress = self.variant.recipe.get("compress") or {}
        try:
            compiled = core.compile_model(
                path,
                "CPU",
                {
                    "INFERENCE_PRECISION_HINT": precision,
                    "INFERENCE_NUM_THREADS": self.threads,
                    "PERFORMANCE_HINT": "LATENCY",
                    "NUM_STREAMS": 1,
                    "DYNAMIC_QUANTIZATION_GROUP_SIZE": int(compress.get("activation_group", 0)),
                },
            )
        except Exception as error:  # openvino raises RuntimeError and its own untyped errors
            raise IntegrityError(f"{path}: OpenVINO cannot load it ({error}). Build the variant again.") from None
        self.inputs = [item.any_name for item in compiled.inputs]
        outputs = [name for item in compiled.outputs for name in item.names]
        if OUTPUT not in outputs:
            raise IntegrityError(f"{path}: expected an output named {OUTPUT}, found {outputs}.")
        self.compiled = compiled
        self.requests = threading.local()  # a request serves one thread at a time

    def _infer(self, feeds: dict[str, NDArray[np.int64]]) -> Vectors:
        if not hasattr(self.requests, "own"):
            self.requests.own = self.compiled.create_infer_request()
        self.requests.own.infer({name: feeds[name] for name in self.inputs})
        return np.array(self.requests.own.get_tensor(OUTPUT).data, dtype=np.float32)
