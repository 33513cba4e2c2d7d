"""The self-test: does a variant encode here as it did when it was released?

`run` encodes the bundle's probes; `find_faults` judges the vectors, and is a pure function of them.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .encoders.encoder import Encoder
from .encoders.vectors import Vectors
from .errors import IntegrityError

# Least cosine between a probe's vector here and at release. Kernels differ between CPUs: fp32 stays within 1e-6,
# 8-bit activations within about 1e-3; a wrong output, pooling or tokenizer falls far below.
COSINE = 0.99
# Most that the length of a vector may differ from 1; float32 stays within 1e-6.
NORM = 1e-3
# Two similarities that differed by more than this at release must rank the same way here. At COSINE a similarity may
# move by 0.28: each vector can pass by itself while searches go wrong.
RANKING = 0.05
# Most that the median similarity of all pairs may move: the gate's usual median_cosine_shift_max.
COLLAPSE = 0.05
# Most that what was encoded before may move a text's vector (L2).
STATE = 1e-3


def read_probes(path: Path) -> list[dict[str, str | None]]:
    """Return a bundle's probes: text and prompt of each, at least one.

    Raises:
        IntegrityError: the file holds something else.
    """
    try:
        probes = json.loads(path.read_text(encoding="utf-8"))
        fits = bool(probes) and all(
            isinstance(probe["text"], str) and isinstance(probe["prompt"], str | None) for probe in probes
        )
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        fits = False
    if not fits:
        raise IntegrityError(f"{path}: expected a list of texts with their prompts. Do not use this bundle.")
    return list(probes)


@dataclass(frozen=True)
class SelfTest:
    """A self-test that was passed.

    Attributes:
        cosine: the least of a probe's vector to the recorded one.
        vectors: those of the probes here: float32 [n, dimensions].
    """

    cosine: float
    vectors: Vectors

    @property
    def numerics(self) -> str:
        """SHA-256 of the vectors: equal where a variant gives the same bytes, by its libraries and the kind of CPU."""
        return hashlib.sha256(self.vectors.astype("<f4").tobytes()).hexdigest()


def run(encoder: Encoder, probes: Sequence[Mapping[str, str | None]], golden: Vectors) -> SelfTest:
    """Encode the probes, each alone, the longest first, and compare them with the recorded vectors.

    Args:
        encoder: the variant.
        probes: text and prompt of each; the first is the longest.
        golden: the vectors at release: float32 [len(probes), dimensions].

    Raises:
        IntegrityError: at least one fault; all are named.
    """

    def encode(index: int) -> Vectors:
        return encoder.encode([str(probes[index]["text"])], prompt=probes[index]["prompt"])

    shortest = min(range(len(probes)), key=lambda index: len(str(probes[index]["text"])))
    before = encode(shortest)
    vectors = np.concatenate([encode(index) for index in range(len(probes))])
    after = np.concatenate([encode(0), encode(shortest)])[1:]
    faults = list(find_faults(vectors, golden, [str(probe["text"]) for probe in probes]))
    if not (shift := float(np.linalg.norm(after - before))) <= STATE:
        faults.append(f"the shortest probe moves by {shift:.2g} after the longest one, expected at most {STATE:g}")
    if faults:
        raise IntegrityError(f"self-test: {'; '.join(faults)}")
    return SelfTest(float((vectors * golden).sum(axis=1).min()), vectors)


def find_faults(vectors: Vectors, golden: Vectors, names: Sequence[str]) -> Iterator[str]:
    """Yield what is wrong with vectors, given those at release; comparisons are written so that NaN fails.

    Args:
        vectors: those of this host: float32 [n, d].
        golden: those at release: float32 [n, d].
        names: the probes' texts, for messages.
    """
    if vectors.shape != golden.shape:
        yield f"vectors of shape {vectors.shape}, recorded {golden.shape}"
        return
    if not np.isfinite(vectors).all():
        yield f"a value is not finite for {names[int(np.argmin(np.isfinite(vectors).all(axis=1)))][:40]!r}"
        return
    lengths = np.linalg.norm(vectors, axis=1)
    worst = int(np.argmax(np.abs(lengths - 1)))
    if not abs(lengths[worst] - 1) <= NORM:
        yield f"length {lengths[worst]:.4f} for {names[worst][:40]!r}, expected 1"
    cosines = (vectors * golden).sum(axis=1)
    worst = int(np.argmin(cosines))
    if not cosines[worst] >= COSINE:
        yield (
            f"cosine {cosines[worst]:.4f} to the recorded vector for {names[worst][:40]!r}, expected at least {COSINE}"
        )
    similar, released = vectors @ vectors.T, golden @ golden.T
    pairs = ~np.eye(len(vectors), dtype=bool)
    # [i, j, k]: at release probe i was clearly closer to j than to k; here it is not.
    swapped = (released[:, :, None] - released[:, None, :] > RANKING) & (similar[:, :, None] <= similar[:, None, :])
    swapped &= pairs[:, :, None] & pairs[:, None, :]
    if count := int(swapped.sum()):
        first = int(np.argwhere(swapped)[0][0])
        yield f"{count} rankings of probes changed (first: what is closest to {names[first][:40]!r})"
    shift = float(np.median(similar[pairs]) - np.median(released[pairs]))
    if not abs(shift) <= COLLAPSE:
        yield f"the median similarity moved by {shift:.3f}, expected at most {COLLAPSE}: the space has collapsed"
