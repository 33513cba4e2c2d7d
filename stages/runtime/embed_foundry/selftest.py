"""The self-test: does a variant encode here as it did when it was released?

`run` encodes the bundle's probes; `faults` judges the vectors, and is a pure function of them.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from .encoder import Encoder, Vectors
from .errors import IntegrityError

# Least cosine between a probe's vector here and at release. Kernels differ between CPUs: fp32 stays within 1e-6,
# 8-bit activations within about 1e-3; a wrong output, pooling or tokenizer is far below.
COSINE = 0.99
# Most that the length of a vector may differ from 1; float32 stays within 1e-6.
NORM = 1e-3
# Two similarities that differed by more than this at release must rank the same way here. At COSINE a similarity may
# move by 0.28, so that vectors can pass one by one and still answer searches wrongly.
RANKING = 0.05
# Most that the median similarity of all pairs may move: the gate's usual median_cosine_shift_max.
COLLAPSE = 0.05
# Most that a text's vector may move (L2) by what was encoded before it.
STATE = 1e-3


def run(encoder: Encoder, probes: Sequence[Mapping[str, str | None]], golden: Vectors) -> float:
    """Encode the probes, each alone, the longest first, and return the least cosine to the recorded vectors.

    Args:
        encoder: the variant.
        probes: text and prompt of each; the first is the longest.
        golden: the vectors at release: float32 [len(probes), dimensions].

    Raises:
        IntegrityError: at least one fault; all are named.
    """

    def encode(at: int) -> Vectors:
        return encoder.encode([str(probes[at]["text"])], prompt=probes[at]["prompt"])

    short = min(range(len(probes)), key=lambda at: len(str(probes[at]["text"])))
    fresh = encode(short)
    found = np.concatenate([encode(at) for at in range(len(probes))])
    after = np.concatenate([encode(0), encode(short)])[1:]
    names = [str(item["text"]) for item in probes]
    listed = list(faults(found, golden, names))
    if not (moved := float(np.linalg.norm(after - fresh))) <= STATE:
        listed.append(f"the shortest probe moves by {moved:.2g} after the longest one, expected at most {STATE:g}")
    if listed:
        raise IntegrityError(f"self-test: {'; '.join(listed)}")
    return float((found * golden).sum(axis=1).min())


def faults(found: Vectors, golden: Vectors, names: Sequence[str]) -> Iterator[str]:
    """Yield what is wrong with vectors, given those at release; comparisons are written so that NaN fails.

    Args:
        found: the vectors here: float32 [n, d].
        golden: the vectors at release.
        names: the probes' texts, for messages.
    """
    if found.shape != golden.shape:
        yield f"vectors of shape {found.shape}, recorded {golden.shape}"
        return
    if not np.isfinite(found).all():
        yield f"a value is not finite for {names[int(np.argmin(np.isfinite(found).all(axis=1)))][:40]!r}"
        return
    lengths = np.linalg.norm(found, axis=1)
    worst = int(np.argmax(np.abs(lengths - 1)))
    if not abs(lengths[worst] - 1) <= NORM:
        yield f"length {lengths[worst]:.4f} for {names[worst][:40]!r}, expected 1"
    cosines = (found * golden).sum(axis=1)
    worst = int(np.argmin(cosines))
    if not cosines[worst] >= COSINE:
        yield (
            f"cosine {cosines[worst]:.4f} to the recorded vector for {names[worst][:40]!r}, expected at least {COSINE}"
        )
    here, then = found @ found.T, golden @ golden.T
    pairs = ~np.eye(len(found), dtype=bool)
    # [i, j, k]: at release probe i was clearly closer to j than to k; here it is not.
    swapped = (then[:, :, None] - then[:, None, :] > RANKING) & (here[:, :, None] <= here[:, None, :])
    swapped &= pairs[:, :, None] & pairs[:, None, :]
    if count := int(swapped.sum()):
        first = int(np.argwhere(swapped)[0][0])
        yield f"{count} rankings of probes changed (first: what is closest to {names[first][:40]!r})"
    shift = float(np.median(here[pairs]) - np.median(then[pairs]))
    if not abs(shift) <= COLLAPSE:
        yield f"the median similarity moved by {shift:.3f}, expected at most {COLLAPSE}: the space has collapsed"
