"""The floor: random token vectors with SIF weights, through every task. A variant must score more than this noise.

Averages of random vectors, in which tokens that are frequent in the suite's texts weigh less (Arora, Liang & Ma, A
Simple but Tough-to-Beat Baseline for Sentence Embeddings, ICLR 2017), still tell which texts share rare words: on
STSBenchmark's test pairs with MiniLM's tokenizer they score 69.6 points, where MiniLM has 82.0 (48.0 with frequencies
guessed from token ids).
"""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from embed_foundry import Variant, manifest
from embed_foundry.encoders.tokenized import load_tokenizer
from embed_foundry.encoders.variant import NAME as VARIANT_JSON
from numpy.typing import NDArray

from stages.common.sources.suite_files import read_texts

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FLOOR = "floor"
FILES = {"table": "table.safetensors", "tokenizer": "tokenizer.json"}
# Random vectors of this length are nearly orthogonal; more dimensions would only cost memory.
DIMENSIONS = 256
# a in a / (a + p(token)), within the range that the paper recommends.
SIF = 1e-3
# Rows per file in which frequencies are counted: whole benchmarks have millions.
TEXTS = 20_000


def estimate_floor_bytes(baseline: Path) -> int:
    """Return about how many bytes `write_floor` writes: a table of one byte a number, weights, and the tokenizer."""
    path = _tokenizer_of(baseline, Variant.load(baseline))
    row_bytes = DIMENSIONS + np.dtype(np.float32).itemsize
    return int(load_tokenizer(path).get_vocab_size() * row_bytes + path.stat().st_size)


def write_floor(baseline: Path, data: Path, folder: Path) -> Path:
    """Write the floor as a static variant with the baseline's tokenizer, and return its folder.

    Args:
        baseline: the baseline's folder.
        data: the suite's folder, in whose texts tokens are counted.
        folder: a new folder.
    """
    from safetensors.numpy import save_file

    variant = Variant.load(baseline)
    tokenizer = load_tokenizer(_tokenizer_of(baseline, variant))
    shape = (tokenizer.get_vocab_size(), DIMENSIONS)
    signs = np.random.default_rng(0).integers(0, 2, shape, dtype=np.int8) * np.int8(2) - np.int8(1)
    folder.mkdir(parents=True)
    save_file({"embeddings": signs, "weights": sif_weights(tokenizer, data)}, folder / FILES["table"])
    tokenizer.save(str(folder / FILES["tokenizer"]), pretty=False)
    floor = Variant(
        name=FLOOR,
        kind="static",
        precision="int8",
        model=variant.model,
        space_id=FLOOR,
        dimensions=DIMENSIONS,
        matryoshka=(DIMENSIONS,),
        max_tokens=variant.max_tokens,
        prompts={},  # noise follows no instruction; a prompt's words, rare in the texts, would outweigh the rest
        files=FILES,
    )
    (folder / VARIANT_JSON).write_bytes(manifest.canonical(floor.to_json()))
    manifest.write(folder, {"stage": FLOOR})
    return folder


def _tokenizer_of(folder: Path, variant: Variant) -> Path:
    return folder / (variant.files.get("tokenizer") or f"{variant.files['model']}/{FILES['tokenizer']}")


def sif_weights(tokenizer: "Tokenizer", data: Path) -> NDArray[np.float32]:
    """Return each token's weight a / (a + p), with its frequency p in a suite's texts: float32 [vocabulary]."""
    counts: Counter[int] = Counter()
    for text in read_texts(data, TEXTS):
        counts.update(tokenizer.encode(text, add_special_tokens=False).ids)
    probabilities = np.array([counts[token] for token in range(tokenizer.get_vocab_size())]) / max(1, counts.total())
    return (SIF / (SIF + probabilities)).astype(np.float32)
