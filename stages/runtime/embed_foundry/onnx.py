"""ONNX Runtime encoder. Outputs and inputs are addressed by name, never by position."""

from pathlib import Path

import numpy as np
import onnxruntime as ort

from .encoder import TokenizedEncoder, Vectors
from .errors import IntegrityError

OUTPUT = "sentence_embedding"


class OnnxEncoder(TokenizedEncoder):
    """Runs a graph that pools and normalises itself: int64 input_ids, attention_mask [b, s] -> sentence_embedding."""

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        super().__init__(folder, threads)
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        path = folder / self.variant.files["graph"]
        try:
            self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ort raises untyped pybind errors
            raise IntegrityError(f"{path}: ONNX Runtime cannot load it ({error}). Build the variant again.") from None
        self.inputs = [item.name for item in self.session.get_inputs()]
        outputs = [item.name for item in self.session.get_outputs()]
        if OUTPUT not in outputs:
            raise IntegrityError(f"{path}: expected an output named {OUTPUT}, found {outputs}.")

    def _embed(self, rows: list[str]) -> tuple[Vectors, list[int]]:
        ids, truncated = self._ids(rows)
        shape = (len(ids), max(map(len, ids)))
        tokens = np.full(shape, self.variant.pad_id, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        for at, row in enumerate(ids):
            tokens[at, : len(row)] = row
            mask[at, : len(row)] = 1
        feeds = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros(shape, dtype=np.int64)}
        vectors = self.session.run([OUTPUT], {name: feeds[name] for name in self.inputs})[0]
        return np.asarray(vectors, dtype=np.float32), truncated
