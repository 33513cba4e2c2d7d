"""Which variants may share an index: queries by one, documents by another, on every retrieval task.

A service that swaps its variant keeps its index. Neither a common name nor close cosines prove that this works.
"""

import json
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from embed_foundry.encoder import Vectors

K = 10
# A matrix of queries x documents above this is not computed: 4 GB of float32.
CELLS_MAX = 1_000_000_000
DIGITS = 6


def save(path: Path, task: Any, adapter: Any) -> None:  # noqa: ANN401 - mteb has no types
    """Write what a retrieval task's last evaluation encoded, and what is relevant, as one npz file.

    Args:
        path: the file.
        task: the mteb task, evaluated.
        adapter: the variant for mteb, with what it was asked for.
    """
    arrays: dict[str, Any] = {}
    for subset, asked in sorted(adapter.asked.items()):
        split = task.dataset["default" if subset == "default" else subset]
        relevant = next(iter(split.values()))["relevant_docs"]
        arrays[f"{subset}/relevant"] = np.array(json.dumps(relevant, sort_keys=True))
        for side in ("query", "document"):
            arrays[f"{subset}/{side}/ids"] = np.array(asked[side].ids)
            arrays[f"{subset}/{side}/vectors"] = adapter.vectors(asked[side])
    with path.open("wb") as file:
        np.savez(file, **arrays)


def matrix(files: Mapping[str, Path]) -> dict[str, dict[str, dict[str, float]]]:
    """Return the figures of each pair of variants with vectors of one length, on one task: query -> index -> figure.

    recall_at_10 and ndcg_at_10 as pytrec_eval defines them; overlap_at_10: the part of the ten documents found that the
    index's own variant would have found. Means over the queries, then over the subsets.

    Args:
        files: variant to the file that `save` wrote for the task.
    """
    loaded = {name: dict(np.load(path, allow_pickle=False)) for name, path in files.items()}
    result: dict[str, dict[str, dict[str, float]]] = {name: {} for name in loaded}
    subsets = sorted({key.partition("/")[0] for arrays in loaded.values() for key in arrays})
    for asking, holding in product(loaded, loaded):
        found = [_pair(loaded[asking], loaded[holding], subset) for subset in subsets]
        known = [one for one in found if one]
        if known and len(known) == len(found):
            result[asking][holding] = {
                name: round(sum(one[name] for one in known) / len(known), DIGITS) for name in known[0]
            }
    return result


def _pair(asking: Mapping[str, Any], holding: Mapping[str, Any], subset: str) -> dict[str, float]:
    queries, own = asking[f"{subset}/query/vectors"], holding[f"{subset}/query/vectors"]
    documents = holding[f"{subset}/document/vectors"]
    if queries.shape[1] != documents.shape[1] or len(queries) * len(documents) > CELLS_MAX:
        return {}
    mine, theirs = _nearest(queries, documents), _nearest(own, documents)
    # Both variants met the task's queries in its own order; ids say so, and a mistake would look like bad quality.
    if not np.array_equal(asking[f"{subset}/query/ids"], holding[f"{subset}/query/ids"]):
        raise ValueError(f"{subset}: variants were asked different queries")
    scores = _evaluated(queries, documents, mine, holding, subset)
    same = [len(set(left) & set(right)) for left, right in zip(mine.tolist(), theirs.tolist(), strict=True)]
    return scores | {"overlap_at_10": float(np.mean(same)) / mine.shape[1]}


def _nearest(queries: Vectors, documents: Vectors) -> np.ndarray[Any, Any]:
    """Return the positions of the ten documents of highest cosine, best first: [queries, 10]."""
    similar = queries @ documents.T
    top = np.argpartition(-similar, min(K, similar.shape[1]) - 1, axis=1)[:, :K]
    order = np.argsort(-np.take_along_axis(similar, top, axis=1), axis=1, kind="stable")
    return np.take_along_axis(top, order, axis=1)


def _evaluated(
    queries: Vectors, documents: Vectors, nearest: np.ndarray[Any, Any], arrays: Mapping[str, Any], subset: str
) -> dict[str, float]:
    import pytrec_eval

    relevant = json.loads(str(arrays[f"{subset}/relevant"]))
    names, ids = arrays[f"{subset}/document/ids"], arrays[f"{subset}/query/ids"]
    ranked = {
        str(query): {str(names[at]): float(vector @ documents[at]) for at in row}
        for query, vector, row in zip(ids, queries, nearest, strict=True)
    }
    judged = pytrec_eval.RelevanceEvaluator(relevant, {"recall.10", "ndcg_cut.10"}).evaluate(ranked)
    return {
        f"{name}_at_10": float(np.mean([row[key] for row in judged.values()]))
        for name, key in (("recall", "recall_10"), ("ndcg", "ndcg_cut_10"))
    }
