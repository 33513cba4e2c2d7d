"""A ratio of two means over the same queries, with the bounds that so many queries support."""

from dataclasses import dataclass

import numpy as np

from .ranking import Scores

# As the build's gate: conf/config.yaml.
CONFIDENCE, RESAMPLES, SEED = 0.95, 2000, 0


@dataclass(frozen=True)
class Bounds:
    """A ratio with one-sided bounds, each at the confidence.

    Attributes:
        estimate: the ratio; NaN if what it is relative to is zero.
        low, high: its bounds; NaN likewise.
        samples: queries behind it.
    """

    estimate: float
    low: float
    high: float
    samples: int

    def __str__(self) -> str:
        return f"{100 * self.estimate:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def bound_ratio(scores: Scores, reference: Scores) -> Bounds:
    """Return mean(scores) / mean(reference), bounded by a paired bootstrap of the queries.

    The percentile interval of Efron & Tibshirani (An Introduction to the Bootstrap, 1993, section 13.3), as in the
    build's gate: both means are taken of the same resampled queries.

    Args:
        scores: one score a query, [n].
        reference: likewise.
    """
    size = len(scores)
    rng = np.random.default_rng(SEED)
    weights = rng.multinomial(size, np.full(size, 1 / size), size=RESAMPLES).astype(np.float64)
    below = weights @ reference
    if not (below > 0).all():
        return Bounds(float("nan"), float("nan"), float("nan"), size)
    ratios = (weights @ scores) / below
    low, high = np.quantile(ratios, [1 - CONFIDENCE, CONFIDENCE])
    return Bounds(float(scores.sum() / reference.sum()), float(low), float(high), size)
