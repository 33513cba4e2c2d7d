"""Vectors as arrays: what every encoder returns, and how they are truncated."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import IntegrityError

Vectors = NDArray[np.float32]
# Characters of a text that an error shows.
SHOWN = 60


def truncate(vectors: Vectors, dimensions: int, texts: Sequence[str]) -> Vectors:
    """Return vectors truncated to their first `dimensions` and renormalised: [n, d] -> [n, dimensions], float32.

    Matryoshka truncation as in Kusupati et al. 2022 (arXiv:2205.13147); norms are taken in float64. `texts` name
    the first bad vector in an error.

    Raises:
        IntegrityError: a vector is not finite or has length zero; a zero norm never becomes NaN.
    """
    part = vectors[:, :dimensions].astype(np.float64)
    norms = np.linalg.norm(part, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(norms[:, 0]) & (norms[:, 0] > 0)))
    if bad.size:
        first = int(bad[0])
        raise IntegrityError(
            f"{bad.size} of {len(vectors)} vectors are not finite or have no length, first that of text {first}, "
            f"{texts[first][:SHOWN]!r}. Do not ship this variant; its precision may overflow on this hardware."
        )
    unit: Vectors = (part / norms).astype(np.float32)
    return unit
