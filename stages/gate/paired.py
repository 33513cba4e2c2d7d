"""Paired bootstrap: what n samples say about the part of the baseline's score that a variant keeps, and no more.

Both encoders are scored on the same resampled queries, texts or pairs, and their ratio is taken each time; its
quantiles bound the true ratio (percentile interval: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, section
13.3; for systems on one test set: Koehn, Statistical Significance Tests for Machine Translation Evaluation, 2004).

A variant passes if its lower bound meets the limit on *every* task. That is an intersection-union test: each task at
level a keeps the chance of passing a variant that is inferior somewhere at a, with no correction for the number of
tasks (Berger, Multiparameter Hypothesis Testing and Acceptance Sampling, Technometrics 24, 1982).

Pairs of texts that recur (all pairs of 50 documents, say) are not independent: there the texts are resampled and a pair
counts as often as both its texts together (Owen, The Pigeonhole Bootstrap, Annals of Applied Statistics 1, 2007).

Clusterings have no value a text: mteb's own repetitions are resampled, so the interval is that of the clustering alone.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.common.config import Gate

Array = NDArray[np.float64]
Columns = Mapping[str, Sequence[float]]
DIGITS = 6
# Weights of this many numbers at a time: 64 MB.
CHUNK = 8_000_000
# Texts a pair under which pairs share so many texts that they are not independent. Two is "no text recurs".
DISTINCT = 1.6


def intervals(
    config: Gate, task: str, samples: Mapping[str, Mapping[str, Columns]], base: str
) -> dict[str, dict[str, Any]]:
    """Return the bounds of each encoder's score relative to the baseline's, on one task.

    Args:
        config: confidence, resamples, seed.
        task: the task's name, from which (with the seed) the draws follow.
        samples: encoder -> subset -> column -> one value a sample, as the quality stage writes them.
        base: the encoder that others are relative to.

    Returns:
        encoder -> {low, high: one-sided bounds of the ratio at the confidence; se: standard error; samples}. A baseline
        whose resampled score is not always positive has no ratio: {} for every encoder.
    """
    scores: dict[str, Array] = dict.fromkeys(samples, np.zeros(config.resamples))
    subsets = sorted(samples[base])
    for subset in subsets:
        found = resampled(config, f"{task}/{subset}", {key: columns[subset] for key, columns in samples.items()})
        scores = {key: total + found[key] / len(subsets) for key, total in scores.items()}
    if not (scores[base] > 0).all():
        return {key: {} for key in samples}
    count = sum(len(next(iter(columns.values()))) for columns in samples[base].values())
    result = {}
    for key, score in scores.items():
        ratio = score / scores[base]
        low, high = np.quantile(ratio, [1 - config.confidence, config.confidence])
        result[key] = {"low": _round(low), "high": _round(high), "se": _round(ratio.std()), "samples": count}
    return result


def resampled(config: Gate, name: str, samples: Mapping[str, Columns]) -> dict[str, Array]:
    """Return every encoder's score in each resample: float64 [resamples]; all see the same resamples.

    Args:
        config: as `intervals`.
        name: what the draws are seeded by.
        samples: encoder -> column -> one value a sample.

    Raises:
        ValueError: encoders have different numbers of samples.
    """
    some = next(iter(samples.values()))
    sizes = {len(column) for columns in samples.values() for column in columns.values()}
    if len(sizes) != 1:
        raise ValueError(f"{name}: encoders were measured on different numbers of samples: {sorted(sizes)}")
    (size,) = sizes
    seed = [config.seed, *hashlib.sha256(name.encode()).digest()]
    rng = np.random.default_rng(seed)
    statistics = {key: statistic(columns) for key, columns in samples.items()}
    parts: dict[str, list[Array]] = {key: [] for key in samples}
    step = max(1, CHUNK // size)
    for start in range(0, config.resamples, step):
        weights = draw(some, size, min(step, config.resamples - start), rng)
        for key, score in statistics.items():
            parts[key].append(score(weights))
    return {key: np.concatenate(found) for key, found in parts.items()}


def draw(columns: Columns, size: int, times: int, rng: np.random.Generator) -> Array:
    """Return how often each sample counts in each resample: [times, size]."""
    if not {"left", "right"} <= set(columns):
        return _multinomial(size, times, rng)
    pairs = np.array([columns["left"], columns["right"]], dtype=int)
    texts = int(pairs.max()) + 1
    if texts >= DISTINCT * size:
        return _multinomial(size, times, rng)
    weights = _multinomial(texts, times, rng)
    both: Array = weights[:, pairs[0]] * weights[:, pairs[1]]
    return both


def statistic(columns: Columns) -> Callable[[Array], Array]:
    """Return the score as a function of weights [times, n] -> [times].

    Columns cosine and gold give Spearman's correlation, cosine and label average precision, one column alone its mean.

    Raises:
        ValueError: other columns.
    """
    values = {name: np.asarray(column, dtype=np.float64) for name, column in columns.items()}
    names = set(values) - {"left", "right"}
    if names == {"cosine", "gold"}:
        return lambda weights: _correlation(weights, _ranks(values["cosine"], weights), _ranks(values["gold"], weights))
    if names == {"cosine", "label"}:
        return lambda weights: _average_precision(values["cosine"], values["label"], weights)
    if len(names) == 1:
        (only,) = names
        return lambda weights: (weights @ values[only]) / weights.sum(axis=1)
    raise ValueError(f"columns {sorted(names)} have no statistic")


def _multinomial(size: int, times: int, rng: np.random.Generator) -> Array:
    return rng.multinomial(size, np.full(size, 1 / size), size=times).astype(np.float64)


def _ranks(values: Array, weights: Array) -> Array:
    """Return the mid-rank of each value in the sample in which it is repeated by its weight: [times, n]."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    grouped = np.add.reduceat(weights[:, order], starts, axis=1)
    ranks: Array = (np.cumsum(grouped, axis=1) - (grouped - 1) / 2)[:, group]
    return ranks


def _correlation(weights: Array, left: Array, right: Array) -> Array:
    """Return Pearson's correlation of weighted columns: [times]; 0 where one of them is constant."""
    total = weights.sum(axis=1, keepdims=True)
    left = left - (weights * left).sum(axis=1, keepdims=True) / total
    right = right - (weights * right).sum(axis=1, keepdims=True) / total
    both = (weights * left * right).sum(axis=1)
    norm = np.sqrt((weights * left**2).sum(axis=1) * (weights * right**2).sum(axis=1))
    found: Array = np.divide(both, norm, out=np.zeros_like(both), where=norm > 0)
    return found


def _average_precision(score: Array, label: Array, weights: Array) -> Array:
    """Return average precision with the samples in descending order of score: [times]."""
    order = np.argsort(-score, kind="stable")
    weights, hits = weights[:, order], weights[:, order] * label[order]
    seen = np.cumsum(weights, axis=1)
    precision = np.divide(np.cumsum(hits, axis=1), seen, out=np.zeros_like(seen), where=seen > 0)
    total = hits.sum(axis=1)
    found: Array = np.divide((precision * hits).sum(axis=1), total, out=np.zeros_like(total), where=total > 0)
    return found


def _round(value: float) -> float:
    return round(float(value), DIGITS)
