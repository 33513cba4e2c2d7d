"""What fewer bytes a vector cost: error, cosine, and how many of the ten nearest texts stay.

Usage: python tests/benchmarks/precision.py RELEASE [VARIANT]

The texts are the default suite's retrieval task, botocore's documentation: 500 queries, 2000 texts. Packed texts are
searched with packed queries; bits are compared by Hamming distance, all else by cosine.
"""

import base64
import json
import sys
from pathlib import Path

import numpy as np
from embed_foundry import open_bundle
from embed_foundry.serve import precision

TASK = Path("data/AwsOperationRetrieval")


def read_texts(name):
    """Return the texts of one file of the task, which `make` writes."""
    return [json.loads(line)["text"] for line in (TASK / name).read_text(encoding="utf-8").splitlines()]


def unpack(name, packed):
    """Return packed vectors as numbers to compare: [n, d] float64."""
    if name == "float16":
        return np.array([np.frombuffer(base64.b64decode(row), "<f2") for row in packed], dtype=np.float64)
    if name == "int8":
        return packed / precision.INT8_SCALE
    bits = np.unpackbits(packed, axis=1)
    return np.where(bits, 1.0, -1.0)  # a dot product of signs falls as the Hamming distance grows


def find_nearest(queries, texts):
    """Return the ten nearest texts of each query by cosine: [n, 10]."""
    scores = queries @ (texts / np.linalg.norm(texts, axis=1, keepdims=True)).T
    return np.argsort(-scores, axis=1, kind="stable")[:, :10]


def main(release, variant=None):
    """Print one line a precision."""
    encoder = open_bundle(release, variant)
    queries, texts = (encoder.encode(read_texts(f"{name}.jsonl")) for name in ("queries", "corpus"))
    nearest = find_nearest(queries.astype(np.float64), texts.astype(np.float64))
    print(f"{encoder.variant.name}, {len(queries)} queries, {len(texts)} texts, {texts.shape[1]} dimensions")
    for name in ("float16", "int8", "ubinary"):
        encode = precision.ENCODINGS[name]
        near = unpack(name, encode(queries)), unpack(name, encode(texts))
        cosines = (near[1] * texts).sum(axis=1) / np.linalg.norm(near[1], axis=1)
        kept = [len(set(a) & set(b)) for a, b in zip(nearest, find_nearest(*near), strict=True)]
        error = np.abs(near[1] - texts).max()
        print(f"{name}: error {error:.2e}, cosine {cosines.min():.6f} to {cosines.max():.6f}, kept {np.mean(kept):.2f}")
    rescored = unpack("ubinary", precision.to_ubinary(texts))
    kept = [len(set(a) & set(b)) for a, b in zip(nearest, find_nearest(queries, rescored), strict=True)]
    print(f"ubinary texts, float32 queries: kept {np.mean(kept):.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
