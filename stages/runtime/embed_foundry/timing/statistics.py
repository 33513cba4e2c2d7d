"""Distribution-free statistics of timings: what n samples can say about the median and the tail, and no more.

All bounds come from order statistics of independent draws from one continuous distribution, whatever its shape
(Conover, Practical Nonparametric Statistics, 3rd ed. 1999, section 3.2; David & Nagaraja, Order Statistics, 3rd ed.
2003, section 7.1): the number of draws below the p-quantile is binomial(n, p). Rounds of a timing run are not quite
independent: a disturbance that lasts several rounds makes the true coverage lower than the nominal one.
"""

import math
from collections.abc import Sequence
from functools import cache

CONFIDENCE = 0.95
# What sums of a thousand probabilities are off by, at most: (n = 1, p = 1/2) reaches 1/2 at k = 0.
ROUNDING = 1e-9


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the narrowest symmetric pair of order statistics that covers the median with at least `confidence`.

    With r the largest rank for which P(binomial(n, 1/2) < r) < (1 - confidence) / 2, the interval is
    (x_(r), x_(n+1-r)).

    Raises:
        ValueError: there are so few values that even (minimum, maximum) covers less: fewer than 6 at 95 %.
    """
    n, tail = len(values), (1 - confidence) / 2
    # Rank k of the least k with cdf(k) >= tail has P(binomial < k) = cdf(k - 1) < tail.
    rank = _binomial_quantile(tail, n, 0.5)
    if rank < 1:
        raise ValueError(f"{n} values are too few for a {confidence:.0%} interval of their median; take more rounds")
    ordered = sorted(values)
    return ordered[rank - 1], ordered[n - rank]


def quantile(values: Sequence[float], p: float) -> float:
    """Return the p-quantile as an observed value, x_(ceil(n p)): the inverse of the empirical distribution function."""
    return sorted(values)[max(0, math.ceil(round(len(values) * p, 9)) - 1)]


def quantile_upper(values: Sequence[float], p: float, confidence: float = CONFIDENCE) -> float | None:
    """Return the one-sided upper confidence bound of the p-quantile: the least x_(r) with P(binomial(n, p) < r) >= c.

    None if even the maximum falls short: 1 - p^n < c. At 95 % a bound takes 59 values for p = 0.95 (where it is the
    maximum) and 299 for p = 0.99.
    """
    n = len(values)
    if not 1 - p**n >= confidence:
        return None
    rank = _binomial_quantile(confidence, n, p) + 1  # least r - 1 with cdf(r - 1) >= c
    return sorted(values)[rank - 1]


def binomial_probability(k: int, n: int, p: float) -> float:
    """Return the chance of k successes among n draws, each of probability p, which is above 0 and below 1."""
    ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(ways + k * math.log(p) + (n - k) * math.log1p(-p))


@cache
def _binomial_quantile(q: float, n: int, p: float) -> int:
    """Return the least k with P(binomial(n, p) <= k) >= q. The runtime has no scipy."""
    below = 0.0
    for k in range(n + 1):
        below += binomial_probability(k, n, p)
        if below >= q - ROUNDING:
            return k
    return n
