"""How much of an index was made by other bytes than a release: a random sample is embedded again, and the rest bounded.

A vector counts as the release's own if its cosine to what the release computes now is as near as the release's
self-test accepts on this host. What cannot be told apart from a numerical difference between hosts is not counted.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..encoders.encoder import Encoder
from ..encoders.vectors import Vectors, truncate
from ..errors import InputError
from ..progress import bar
from ..selftest import COSINE
from ..timing.statistics import binomial_probability
from .bounds import CONFIDENCE
from .index_file import IndexFile

# Vectors that are looked at, at least: with no other one among them, 95 % confidence bounds the rest at 1 %.
LEAST = 300
# Cosine of vectors that are equal but for the last digits of fp32, or for half precision.
EXACT = 1 - 1e-5
# Texts a call: between two steps of progress.
STEP = 64


@dataclass(frozen=True)
class Audit:
    """What a sample says about an index.

    Attributes:
        vectors: in the index.
        sampled: rows that were embedded again, in order.
        foreign: those of them that the release did not make.
        cosines: of the sampled ones to what the release makes of their texts, in the order of `sampled`.
        low, high: bounds of the foreign share of the whole index, each at 95 % confidence.
        limit: least cosine of the release's own.
    """

    vectors: int
    sampled: list[int]
    foreign: list[int]
    cosines: list[float]
    low: float
    high: float
    limit: float
    exact: int


def audit(
    index: IndexFile, texts: Sequence[str], encoder: Encoder, *, fraction: float, seed: int | None = None
) -> Audit:
    """Embed a random sample of an index again.

    Args:
        index: the vectors of documents.
        texts: the documents, in the index's order.
        encoder: a variant of the release, which embeds with the prompt "document" if it has one.
        fraction: of the vectors, to look at; at least `LEAST` are.
        seed: of the sample; None draws another one each time, as whoever planted vectors must not know it.

    Raises:
        InputError: there are more or fewer texts than vectors, the variant has shorter ones, or the fraction is not
            above 0 and at most 1.
    """
    if not 0 < fraction <= 1:
        raise InputError(f"--fraction {fraction:g} is out of range: above 0, at most 1.")
    if len(texts) != index.vectors:
        raise InputError(
            f"{index.path}: has {index.vectors} vectors, but there are {len(texts)} texts. They must pair."
        )
    if index.dimensions > encoder.variant.dimensions:
        raise InputError(
            f"{index.path}: has vectors of {index.dimensions} dimensions, {encoder.variant.name} has "
            f"{encoder.variant.dimensions}. Name the release that made it."
        )
    count = min(index.vectors, max(LEAST, math.ceil(fraction * index.vectors)))
    rows = np.sort(np.random.default_rng(seed).choice(index.vectors, count, replace=False))
    cosines = _compare(index.read(rows), [texts[row] for row in rows], encoder, index.dimensions)
    foreign = rows[~(cosines >= COSINE)]
    low, high = bound_share(len(foreign), count, index.vectors)
    exact = int((cosines >= EXACT).sum())
    return Audit(index.vectors, rows.tolist(), foreign.tolist(), cosines.tolist(), low, high, COSINE, exact)


def _compare(vectors: Vectors, texts: Sequence[str], encoder: Encoder, dimensions: int) -> Vectors:
    """Return the cosine of each stored vector to its text's own; NaN for one that is no direction."""
    prompt = "document" if "document" in encoder.variant.prompts else None
    own = []
    with bar(f"audit: texts by {encoder.variant.name}", len(texts)) as progress:
        for start in range(0, len(texts), STEP):
            own.append(encoder.encode(texts[start : start + STEP], prompt=prompt, dimensions=dimensions))
            progress.update(len(own[-1]))
    usable = np.isfinite(vectors).all(axis=1) & (np.abs(vectors).max(axis=1) > 0)
    cosines = np.full(len(texts), np.nan, np.float32)
    units = truncate(vectors[usable], dimensions, [text for text, kept in zip(texts, usable, strict=True) if kept])
    cosines[usable] = (units * np.concatenate(own)[usable]).sum(axis=1)
    return cosines


def bound_share(hits: int, sampled: int, total: int) -> tuple[float, float]:
    """Return one-sided 95 % bounds of a share, of which a random sample had so many.

    Clopper and Pearson's exact interval (Biometrika 26, 1934), found by bisection. A sample of everything is no sample:
    both bounds are its share.
    """
    if sampled == total:
        return hits / total, hits / total
    tail = 1 - CONFIDENCE
    low = 0.0 if not hits else _bisect(lambda share: 1 - _compute_tail(hits - 1, sampled, share) >= tail)
    high = 1.0 if hits == sampled else _bisect(lambda share: _compute_tail(hits, sampled, share) <= tail)
    return low, high


def _bisect(reached: Callable[[float], bool]) -> float:
    """Return the least share at which a condition holds that stays true from there on."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def _compute_tail(hits: int, count: int, share: float) -> float:
    """Return the chance of at most `hits` successes among `count` draws, each of probability `share`."""
    return math.fsum(binomial_probability(number, count, share) for number in range(hits + 1))
