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
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from stages.common.config import Gate
from stages.common.limits import RatioBounds

Encoder = TypeVar("Encoder", bound=Hashable)
Array = NDArray[np.float64]
Columns = Mapping[str, Sequence[float]]
DIGITS = 6
# Weights of this many numbers at a time: 64 MB.
CHUNK = 8_000_000
# Texts a pair under which pairs share so many texts that they are not independent. Two is "no text recurs".
DISTINCT = 1.6


def bound_ratios(
    config: Gate,
    task: str,
    samples: Mapping[Encoder, Mapping[str, Columns]],
    baseline: Encoder,
    estimates: Mapping[Encoder, float],
) -> dict[Encoder, RatioBounds]:
    """Return each encoder's score relative to the baseline's, on one task, with one-sided bounds at the confidence.

    Args:
        config: confidence, resamples, seed.
        task: the task's name, from which (with the seed) the resamples follow.
        samples: encoder -> subset -> column -> one value per sample, as the quality stage writes them.
        baseline: the encoder that others are relative to.
        estimates: encoder -> the ratio itself.

    Returns:
        By encoder. A baseline whose resampled score is not always positive has no ratio: {}.

    Raises:
        KeyError: an encoder lacks a subset of the baseline's.
        ValueError: encoders have different numbers of samples, or columns that are unknown.
    """
    scores: dict[Encoder, Array] = dict.fromkeys(samples, np.zeros(config.resamples))
    subsets = sorted(samples[baseline])
    for subset in subsets:
        columns = {encoder: by_subset[subset] for encoder, by_subset in samples.items()}
        resampled = resample_scores(config, f"{task}/{subset}", columns)
        scores = {encoder: total + resampled[encoder] / len(subsets) for encoder, total in scores.items()}
    if not (scores[baseline] > 0).all():
        return {}
    count = sum(len(next(iter(columns.values()))) for columns in samples[baseline].values())
    result = {}
    for encoder, score in scores.items():
        ratio = score / scores[baseline]
        low, high = np.quantile(ratio, [1 - config.confidence, config.confidence])
        result[encoder] = RatioBounds(estimates[encoder], _round(low), _round(high), count, _round(ratio.std()))
    return result


def resample_scores(config: Gate, name: str, samples: Mapping[Encoder, Columns]) -> dict[Encoder, Array]:
    """Return every encoder's score in each resample: float64 [resamples]; all see the same resamples.

    Args:
        config: resamples, seed.
        name: what the resamples are seeded by, beside the seed.
        samples: encoder -> column -> one value per sample.

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
    statistics = {encoder: make_statistic(columns) for encoder, columns in samples.items()}
    parts: dict[Encoder, list[Array]] = {encoder: [] for encoder in samples}
    step = max(1, CHUNK // size)
    for start in range(0, config.resamples, step):
        weights = draw_weights(some, size, min(step, config.resamples - start), rng)
        for encoder, compute in statistics.items():
            parts[encoder].append(compute(weights))
    return {encoder: np.concatenate(chunks) for encoder, chunks in parts.items()}


def draw_weights(columns: Columns, size: int, times: int, rng: np.random.Generator) -> Array:
    """Return how often each sample counts in each resample: [times, size]."""
    if not {"left", "right"} <= set(columns):
        return _draw_multinomial(size, times, rng)
    pairs = np.array([columns["left"], columns["right"]], dtype=int)
    texts = int(pairs.max()) + 1
    if texts >= DISTINCT * size:
        return _draw_multinomial(size, times, rng)
    weights = _draw_multinomial(texts, times, rng)
    both: Array = weights[:, pairs[0]] * weights[:, pairs[1]]
    return both


def make_statistic(columns: Columns) -> Callable[[Array], Array]:
    """Return the score as a function of weights [times, n] -> [times].

    Columns cosine and gold give Spearman's correlation, cosine and label average precision, one column alone its mean.

    Raises:
        ValueError: other columns.
    """
    values = {name: np.asarray(column, dtype=np.float64) for name, column in columns.items()}
    names = set(values) - {"left", "right"}
    if names == {"cosine", "gold"}:
        return lambda weights: _correlate(weights, _rank(values["cosine"], weights), _rank(values["gold"], weights))
    if names == {"cosine", "label"}:
        return lambda weights: _compute_average_precision(values["cosine"], values["label"], weights)
    if len(names) == 1:
        (only,) = names
        return lambda weights: (weights @ values[only]) / weights.sum(axis=1)
    raise ValueError(f"columns {sorted(names)} have no statistic")


def _draw_multinomial(size: int, times: int, rng: np.random.Generator) -> Array:
    return rng.multinomial(size, np.full(size, 1 / size), size=times).astype(np.float64)


def _rank(values: Array, weights: Array) -> Array:
    """Return the mid-rank of each value in the sample in which it is repeated by its weight: [times, n]."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    grouped = np.add.reduceat(weights[:, order], starts, axis=1)
    ranks: Array = (np.cumsum(grouped, axis=1) - (grouped - 1) / 2)[:, group]
    return ranks


def _correlate(weights: Array, left: Array, right: Array) -> Array:
    """Return Pearson's correlation of weighted columns: [times]; 0 where one of them is constant."""
    total = weights.sum(axis=1, keepdims=True)
    left = left - (weights * left).sum(axis=1, keepdims=True) / total
    right = right - (weights * right).sum(axis=1, keepdims=True) / total
    both = (weights * left * right).sum(axis=1)
    norm = np.sqrt((weights * left**2).sum(axis=1) * (weights * right**2).sum(axis=1))
    result: Array = np.divide(both, norm, out=np.zeros_like(both), where=norm > 0)
    return result


def _compute_average_precision(score: Array, label: Array, weights: Array) -> Array:
    """Return average precision with the samples in descending order of score: [times]."""
    order = np.argsort(-score, kind="stable")
    weights, hits = weights[:, order], weights[:, order] * label[order]
    count = np.cumsum(weights, axis=1)
    precision = np.divide(np.cumsum(hits, axis=1), count, out=np.zeros_like(count), where=count > 0)
    total = hits.sum(axis=1)
    result: Array = np.divide((precision * hits).sum(axis=1), total, out=np.zeros_like(total), where=total > 0)
    return result


def _round(value: float) -> float:
    return round(float(value), DIGITS)
