"""What a static table learns from: the base model's vectors, by the fp32 graph that variants start from.

They take minutes, and no setting of a table changes them but its vocabulary, texts and prompt. So they are kept, and
another dimension, weighting or precision takes seconds. ONNX Runtime is twice as fast here as torch (docs/minilm.md).
"""

import hashlib
from contextlib import suppress
from pathlib import Path

import numpy as np
from embed_foundry import IntegrityError, manifest
from numpy.typing import NDArray

from stages.common.contract.output import library_versions, stage_output
from stages.common.contract.progress import bar
from stages.convert import graph

# Of the graph, as in conf/variant/onnx_fp32.yaml.
OPSET = 20
# Token ids, padding included, that it is given at once.
AT_ONCE = 2048
KEPT, FILE = Path(".cache/static"), "vectors.npy"


class Teacher:
    """A SentenceTransformer folder as a graph.

    Args:
        base: the folder.
        scratch: a folder for the graph's file, as long as the teacher is used.

    Attributes:
        dimensions: length of its vectors.

    Raises:
        InputError: the architecture cannot be exported.
    """

    def __init__(self, base: Path, scratch: Path) -> None:
        exported = graph.export(base, OPSET)
        self.dimensions = graph.dimensions(exported)
        self._run = graph.runner(exported, scratch)
        self._graph = {path.name: manifest.sha256(path) for path in scratch.iterdir()}

    def vectors(self, rows: list[list[int]], what: str) -> NDArray[np.float32]:
        """Return the vectors of rows of token ids, special ones included: [n, dimensions], unit norm.

        Args:
            rows: the ids.
            what: a word for the rows, for the progress bar.
        """
        asked = {
            "graph": self._graph,
            "rows": hashlib.sha256(manifest.canonical(rows)).hexdigest(),
            "libraries": library_versions(["onnxruntime"]),
        }
        folder = KEPT / hashlib.sha256(manifest.canonical(asked)).hexdigest()
        with suppress(IntegrityError):  # not there, or not as it was written
            manifest.verify(folder)
            kept: NDArray[np.float32] = np.load(folder / FILE)
            return kept
        made = self._made(rows, what)
        with stage_output(folder, stage="convert@static", parameters=asked, inputs={}) as work:
            np.save(work / FILE, made)
        return made

    def _made(self, rows: list[list[int]], what: str) -> NDArray[np.float32]:
        order = sorted(range(len(rows)), key=lambda at: len(rows[at]))
        made = np.empty((len(rows), self.dimensions), dtype=np.float32)
        with bar(f"convert: {what} that the model is asked for", len(rows)) as shown:
            start = 0
            while start < len(order):
                end = start + 1
                while end < len(order) and (end + 1 - start) * len(rows[order[end]]) <= AT_ONCE:
                    end += 1
                made[order[start:end]] = self._run([graph.SENTENCE], [rows[at] for at in order[start:end]])[0]
                shown.update(end - start)
                start = end
        return made
