"""The base model's vectors that a static table is made of, by OpenVINO on the graph that variants start from, in bf16.

They take minutes, and no setting of a table changes them but its vocabulary, texts and prompt. So they are cached, and
a conversion to other dimensions, weights or precision takes seconds. bf16 takes half the time of fp32, and a table
fitted to its vectors scores the same (docs/minilm.md, docs/embeddinggemma.md); a CPU without bf16 computes in fp32.
"""

import hashlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from embed_foundry import manifest
from embed_foundry.cpus import available_cpus
from embed_foundry.encoders.vectors import Vectors
from embed_foundry.progress import bar
from numpy.typing import NDArray

from stages.convert import graph
from stages.convert.intermediate import load_or_make

if TYPE_CHECKING:
    from openvino import CompiledModel

# Of the graph, as in conf/variant/onnx_fp32.yaml.
OPSET = 20
# Token ids of a batch.
BATCH_TOKENS = 2048
FILE = "vectors.npy"
PRECISION = "bf16"


class BaseModelVectors:
    """Encodes token ids by a SentenceTransformer folder, and caches the result.

    Args:
        base: the folder.
        cache: a folder for the graph and vectors; another process may use it at the same time.

    Attributes:
        dimensions: length of the vectors.

    Raises:
        InputError: the architecture cannot be exported.
    """

    def __init__(self, base: Path, cache: Path) -> None:
        self._graph = graph.export(base, OPSET, cache)
        self._cache = cache
        self.dimensions = graph.read_dimensions(self._graph)

    def encode(self, rows: list[list[int]], label: str, prompt_tokens: int = 0) -> Vectors:
        """Return the vectors of rows of token ids, special ones included: [n, dimensions], unit norm.

        Args:
            rows: the ids.
            label: what the rows are, for the progress bar.
            prompt_tokens: leading tokens of every row that pooling leaves out, if it leaves prompts out.
        """
        folder = load_or_make(
            self._cache,
            "base_vectors",
            {
                "graph": manifest.read(self._graph.parent).digest,
                "rows": hashlib.sha256(manifest.canonical(rows)).hexdigest(),
                "precision": _choose_precision(),
                "prompt_tokens": prompt_tokens,
            },
            code=[Path(__file__)],
            libraries=["openvino"],
            make=lambda work: np.save(work / FILE, self._run(rows, label, prompt_tokens)),
        )
        vectors: Vectors = np.load(folder / FILE)
        return vectors

    def _run(self, rows: list[list[int]], label: str, prompt_tokens: int) -> Vectors:
        """Run the graph, one thread a batch, so that no vector depends on how many CPUs the machine has."""
        threads = available_cpus()
        compiled = _compile(self._graph, threads)
        inputs = [tensor.any_name for tensor in compiled.inputs]
        requests = threading.local()
        vectors = np.empty((len(rows), self.dimensions), dtype=np.float32)

        def run(batch: list[int]) -> list[int]:
            if not hasattr(requests, "own"):
                requests.own = compiled.create_infer_request()
            ids = np.array([rows[index] for index in batch], dtype=np.int64)
            requests.own.infer(graph.build_feeds(inputs, ids, np.ones_like(ids), prompt_tokens))
            vectors[batch] = requests.own.get_tensor(graph.SENTENCE).data
            return batch

        # The longest first, so that no thread is left with one at the end.
        batches = list(_split_by_length(rows))[::-1]
        with (
            bar(f"convert: the base model's vectors of {label}, tokens", sum(map(len, rows))) as progress,
            ThreadPoolExecutor(threads) as pool,
        ):
            for batch in pool.map(run, batches):
                progress.update(len(batch) * len(rows[batch[0]]))
        return vectors


def _split_by_length(rows: Sequence[list[int]]) -> Iterator[list[int]]:
    """Yield the positions of rows of equal length, `BATCH_TOKENS` ids at a time: nothing is computed on padding."""
    lengths = np.array([len(row) for row in rows])
    for length in np.unique(lengths):
        positions: NDArray[np.intp] = np.flatnonzero(lengths == length)
        step = max(1, BATCH_TOKENS // int(length))
        for start in range(0, len(positions), step):
            yield positions[start : start + step].tolist()


def _choose_precision() -> str:
    """Return OpenVINO's name of the type to compute in."""
    import openvino

    capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return PRECISION if PRECISION.upper() in capabilities else "f32"


def _compile(path: Path, threads: int) -> "CompiledModel":
    """Return a graph that as many streams run, one thread each."""
    import openvino
    from embed_foundry.encoders.openvino import prepare_for_threads

    prepare_for_threads()
    return openvino.Core().compile_model(
        path,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": _choose_precision(),
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
            "PERFORMANCE_HINT": "THROUGHPUT",
        },
    )
