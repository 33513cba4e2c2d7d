"""The floor: random token vectors with SIF weights, through every task. What noise scores, a variant must exceed.

Averages of random vectors, frequent tokens weighted down (Arora, Liang & Ma, A Simple but Tough-to-Beat Baseline for
Sentence Embeddings, ICLR 2017), still tell which texts share rare words: 64.9 of MiniLM's 82.0 points on STSBenchmark.
"""

from pathlib import Path

import numpy as np
from embed_foundry import Variant, manifest
from embed_foundry.variant import NAME as VARIANT_JSON

FLOOR = "floor"
FILES = {"table": "table.safetensors", "tokenizer": "tokenizer.json"}
# Random directions of so many dimensions are all but orthogonal; more only cost memory.
DIMENSIONS = 256
# a in a / (a + p(token)), within the range that the paper recommends.
SIF = 1e-3


def write(baseline: Path, folder: Path) -> Path:
    """Write the floor as a static variant with the baseline's tokenizer and prompts, and return its folder.

    Args:
        baseline: the baseline's folder.
        folder: a new folder.
    """
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer

    variant = Variant.load(baseline)
    name = variant.files.get("tokenizer") or f"{variant.files['model']}/{FILES['tokenizer']}"
    tokenizer = Tokenizer.from_file(str(baseline / name))
    size = tokenizer.get_vocab_size()
    # Vocabularies are ordered by frequency, roughly: p follows Zipf's law by id, as model2vec assumes too.
    probability = 1 / np.arange(2, size + 2)
    weights = SIF / (SIF + probability / probability.sum())
    signs = np.random.default_rng(0).integers(0, 2, (size, DIMENSIONS), dtype=np.int8) * 2 - 1
    folder.mkdir(parents=True)
    tensors = {"embeddings": signs.astype(np.int8), "weights": weights.astype(np.float32)}
    save_file(tensors, folder / FILES["table"])
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
        prompts=variant.prompts,
        files=FILES,
    )
    (folder / VARIANT_JSON).write_bytes(manifest.canonical(floor.to_json()))
    manifest.write(folder, {"stage": FLOOR})
    return folder
