"""ONNX Runtime encoder. Outputs and inputs are addressed by name, never by position."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ..errors import IntegrityError, one_line
from ..system_errors import retryable_error
from .providers import CPU, PROVIDERS, list_installed
from .tokenized import GraphEncoder
from .vectors import Vectors

OUTPUT = "sentence_embedding"


class OnnxEncoder(GraphEncoder):
    """Runs a graph that pools and normalises itself: int64 input_ids, attention_mask [b, s] -> sentence_embedding.

    Args:
        folder, threads, calls: see `Encoder`.
        providers: keys of PROVIDERS in the order in which they are tried; the CPU computes what no other takes.
    """

    def __init__(
        self, folder: Path, threads: int | None = None, calls: int = 1, providers: Sequence[str] = CPU
    ) -> None:
        super().__init__(folder, threads, calls)
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        path = self.variant.locate(folder, "graph")
        names = list_installed(providers, ort.get_available_providers())
        try:
            self.session = ort.InferenceSession(str(path), options, providers=[PROVIDERS[name].onnx for name in names])
        except Exception as error:  # ort raises untyped pybind errors
            raise retryable_error(error, path) or IntegrityError(
                f"{path}: ONNX Runtime cannot load it ({one_line(error)}). Build the variant again."
            ) from None
        # A provider whose library does not load, such as CUDA's without a device, is left out by ONNX Runtime.
        self.providers = tuple(name for name in names if PROVIDERS[name].onnx in self.session.get_providers())
        self.inputs = [tensor.name for tensor in self.session.get_inputs()]
        outputs = [tensor.name for tensor in self.session.get_outputs()]
        if OUTPUT not in outputs:
            raise IntegrityError(f"{path}: expected an output named {OUTPUT}, found {outputs}.")

    def _infer(self, feeds: dict[str, NDArray[np.int64]]) -> Vectors:
        vectors = self.session.run([OUTPUT], {name: feeds[name] for name in self.inputs})[0]
        return np.asarray(vectors, dtype=np.float32)
