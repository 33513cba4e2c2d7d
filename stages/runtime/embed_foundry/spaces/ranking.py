"""What a query finds in an index, and how good that is: ten nearest documents, nDCG@10, overlap@10."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..encoders.vectors import Vectors

K = 10
# Queries a matrix product: bounds memory at 400 MB for 100,000 documents.
STEP = 1000
Ranks = NDArray[np.intp]
Scores = NDArray[np.float64]


def rank(queries: Vectors, documents: Vectors) -> Ranks:
    """Return the positions of the ten documents of highest cosine, best first, equal ones in order.

    Args:
        queries: unit vectors [n, d].
        documents: unit vectors [m, d].

    Returns:
        [n, min(10, m)].
    """
    count = min(K, len(documents))
    parts = []
    for start in range(0, len(queries), STEP):
        similar = queries[start : start + STEP] @ documents.T
        top = np.sort(np.argpartition(-similar, count - 1, axis=1)[:, :count], axis=1)
        order = np.argsort(-np.take_along_axis(similar, top, axis=1), axis=1, kind="stable")
        parts.append(np.take_along_axis(top, order, axis=1))
    return np.concatenate(parts)


def score_ndcg(ranks: Ranks, relevant: Sequence[Mapping[int, float]]) -> Scores:
    """Return each query's nDCG@10 with linear gains, as trec_eval computes it (Järvelin and Kekäläinen 2002).

    Args:
        ranks: what `rank` returned, [n, k].
        relevant: for each query, document -> relevance; not empty.

    Returns:
        [n], 0 to 1.
    """
    discounts = 1 / np.log2(np.arange(2, K + 2))
    scores = np.empty(len(ranks))
    for row, (documents, grades) in enumerate(zip(ranks.tolist(), relevant, strict=True)):
        gains = np.array([grades.get(document, 0.0) for document in documents])
        ideal = np.sort(np.fromiter(grades.values(), float))[::-1][:K]
        scores[row] = gains @ discounts[: len(gains)] / (ideal @ discounts[: len(ideal)])
    return scores


def share(left: Ranks, right: Ranks) -> Scores:
    """Return which part of each query's ten documents two rankings have in common: [n]."""
    pairs = zip(left.tolist(), right.tolist(), strict=True)
    return np.array([len(set(one) & set(other)) / len(one) for one, other in pairs])


def to_labels(ranks: Ranks) -> list[dict[int, float]]:
    """Return a ranking as labels: the ten documents of each query are relevant, all alike."""
    return [dict.fromkeys(row, 1.0) for row in ranks.tolist()]
