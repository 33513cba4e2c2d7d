"""The base model's vectors that a static table is made of, by the fp32 graph that variants start from.

They take minutes, and no setting of a table changes them but its vocabulary, texts and prompt. So they are cached, and
a conversion to other dimensions, weights or precision takes seconds. ONNX Runtime is twice as fast here as torch
(docs/minilm.md).
"""

import hashlib
from contextlib import suppress
from pathlib import Path

import numpy as np
from embed_foundry import IntegrityError, manifest
from embed_foundry.encoder import Vectors

from stages.common.contract.output import library_versions, stage_output
from stages.common.contract.progress import bar
from stages.convert import graph

# Of the graph, as in conf/variant/onnx_fp32.yaml.
OPSET = 20
# Token ids of a batch, padding included.
BATCH_TOKENS = 2048
FILE = "vectors.npy"


class BaseModelVectors:
    """Encodes token ids by a SentenceTransformer folder, and caches the result.

    Args:
        base: the folder.
        scratch: a folder for the graph's file, which must stay as long as this object is used.
        cache: a folder for vectors, by digest of graph and token ids; another process may use it at the same time.

    Attributes:
        dimensions: length of the vectors.

    Raises:
        InputError: the architecture cannot be exported.
    """

    def __init__(self, base: Path, scratch: Path, cache: Path) -> None:
        model = graph.export(base, OPSET)
        self.dimensions = graph.read_dimensions(model)
        self._runner = graph.GraphRunner(model, scratch)
        self._graph = {path.name: manifest.sha256(path) for path in scratch.iterdir()}
        self._cache = cache

    def encode(self, rows: list[list[int]], label: str) -> Vectors:
        """Return the vectors of rows of token ids, special ones included: [n, dimensions], unit norm.

        Args:
            rows: the ids.
            label: what the rows are, for the progress bar.
        """
        key = {
            "graph": self._graph,
            "rows": hashlib.sha256(manifest.canonical(rows)).hexdigest(),
            "libraries": library_versions(["onnxruntime"]),
        }
        folder = self._cache / hashlib.sha256(manifest.canonical(key)).hexdigest()
        with suppress(IntegrityError):  # missing, or not as it was written
            manifest.verify(folder)
            cached: Vectors = np.load(folder / FILE)
            return cached
        vectors = self._run(rows, label)
        with stage_output(folder, stage="convert@static", parameters=key, inputs={}) as work:
            np.save(work / FILE, vectors)
        return vectors

    def _run(self, rows: list[list[int]], label: str) -> Vectors:
        """Run the graph on batches of similar lengths."""
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        vectors = np.empty((len(rows), self.dimensions), dtype=np.float32)
        with bar(f"convert: the base model's vectors of {label}", len(rows)) as progress:
            start = 0
            while start < len(order):
                end = start + 1
                while end < len(order) and (end + 1 - start) * len(rows[order[end]]) <= BATCH_TOKENS:
                    end += 1
                batch = order[start:end]
                vectors[batch] = self._runner.run([graph.SENTENCE], [rows[index] for index in batch])[0]
                progress.update(len(batch))
                start = end
        return vectors
