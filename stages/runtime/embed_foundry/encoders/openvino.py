"""OpenVINO encoder. Outputs and inputs are addressed by name, never by position."""

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray

from ..errors import IntegrityError, one_line
from ..system_errors import retryable_error
from .tokenized import GraphEncoder
from .variant import Variant
from .vectors import Vectors

OUTPUT = "sentence_embedding"


def prepare_for_threads() -> None:
    """Make openvino's first access to an array, which sets numpy's interface up.

    If two threads make it at once, both wait for ever: one holds the interpreter's lock and waits for the other's
    set-up, which needs that lock (openvino 2026.4, pybind11's npy_api).
    """
    _ = openvino.Tensor(openvino.Type.f32, openvino.Shape([1])).data


@dataclass(frozen=True)
class OpenvinoSettings:
    """What the encoder reads from a variant's recipe.

    Attributes:
        inference_precision: OpenVINO's name of the activations' type, "f32" or "bf16"; a CPU without it takes "f32".
        activation_group: how many activations share a scale when they are quantised at run time; 0 quantises none.
    """

    inference_precision: str
    activation_group: int

    @classmethod
    def of(cls, variant: Variant) -> "OpenvinoSettings":
        """Return the settings of a variant; its recipe may name neither."""
        compress = variant.recipe.get("compress") or {}
        return cls(str(variant.recipe.get("inference_precision", "f32")), int(compress.get("activation_group", 0)))


class OpenvinoEncoder(GraphEncoder):
    """Runs a graph that pools and normalises itself: int64 input_ids, attention_mask [b, s] -> sentence_embedding."""

    def __init__(self, folder: Path, threads: int | None = None, calls: int = 1) -> None:
        super().__init__(folder, threads, calls)
        prepare_for_threads()
        path = self.variant.locate(folder, "graph")
        core = openvino.Core()
        settings = OpenvinoSettings.of(self.variant)
        # Set explicitly, whatever OpenVINO's default: a variant must not change with the host's library.
        precision = settings.inference_precision
        if precision.upper() not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            precision = "f32"
        try:
            compiled = core.compile_model(
                path,
                "CPU",
                {
                    "INFERENCE_PRECISION_HINT": precision,
                    "INFERENCE_NUM_THREADS": self.threads * self.calls,
                    "PERFORMANCE_HINT": "LATENCY",
                    "NUM_STREAMS": self.calls,  # a stream runs one call after the other; streams share the weights
                    "DYNAMIC_QUANTIZATION_GROUP_SIZE": settings.activation_group,
                },
            )
        except Exception as error:  # openvino raises RuntimeError and its own untyped errors
            raise retryable_error(error, path) or IntegrityError(
                f"{path}: OpenVINO cannot load it ({one_line(error)}). Build the variant again."
            ) from None
        self.inputs = [tensor.any_name for tensor in compiled.inputs]
        outputs = [name for tensor in compiled.outputs for name in tensor.names]
        if OUTPUT not in outputs:
            raise IntegrityError(f"{path}: expected an output named {OUTPUT}, found {outputs}.")
        self.compiled = compiled
        self.requests = threading.local()  # a request serves one thread at a time

    def _infer(self, feeds: dict[str, NDArray[np.int64]]) -> Vectors:
        if not hasattr(self.requests, "own"):
            self.requests.own = self.compiled.create_infer_request()
        self.requests.own.infer({name: feeds[name] for name in self.inputs})
        return np.array(self.requests.own.get_tensor(OUTPUT).data, dtype=np.float32)
