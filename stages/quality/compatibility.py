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
from numpy.typing import NDArray

K = 10
DOCUMENTS_MAX = 100_000
# Queries at a time: with that many documents, 400 MB of similarities.
STEP = 1000
DIGITS = 6


def save(path: Path, task: Any, adapter: Any) -> bool:  # noqa: ANN401 - mteb has no types
    """Write what a retrieval task's last evaluation encoded, and what is relevant, as one npz file.

    Returns whether it was written: a corpus of over DOCUMENTS_MAX is left out.

    Args:
        path: the file.
        task: the mteb task, evaluated.
        adapter: the variant for mteb, with what it was asked for.
    """
    arrays: dict[str, Any] = {}
    for (subset, split), asked in sorted(adapter.asked.items()):
        if len(asked["document"].ids) > DOCUMENTS_MAX:
            return False
        part = f"{subset}|{split}"
        data = task.dataset[split] if split in task.dataset else task.dataset[subset][split]
        arrays[f"{part}/relevant"] = np.array(json.dumps(data["relevant_docs"], sort_keys=True))
        arrays[f"{part}/ignore_identical_ids"] = np.array(bool(task.ignore_identical_ids))
        for side in ("query", "document"):
            arrays[f"{part}/{side}/ids"] = np.array(asked[side].ids)
            arrays[f"{part}/{side}/vectors"] = adapter.vectors(asked[side])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez(file, **arrays)
    return True


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


def _pair(asking: Mapping[str, Any], holding: Mapping[str, Any], part: str) -> dict[str, float]:
    ids, queries, own = (
        asking[f"{part}/query/ids"],
        asking[f"{part}/query/vectors"],
        holding[f"{part}/query/vectors"],
    )
    names, documents = holding[f"{part}/document/ids"], holding[f"{part}/document/vectors"]
    if queries.shape[1] != documents.shape[1]:
        return {}
    # All variants met the task's queries in its own order; ids say so, and a mistake would look like bad quality.
    if not np.array_equal(ids, holding[f"{part}/query/ids"]):
        raise ValueError(f"{part}: variants were asked different queries")
    itself: dict[int, int] = {}
    if holding[f"{part}/ignore_identical_ids"]:
        places = {name: at for at, name in enumerate(names.tolist())}
        itself = {at: places[query] for at, query in enumerate(ids.tolist()) if query in places}
    mine, theirs = (_nearest(vectors, documents, itself) for vectors in (queries, own))
    same = [len(set(left) & set(right)) for left, right in zip(mine.tolist(), theirs.tolist(), strict=True)]
    return _evaluated(queries, documents, mine, holding, part) | {"overlap_at_10": float(np.mean(same)) / mine.shape[1]}


def _nearest(queries: Vectors, documents: Vectors, itself: Mapping[int, int]) -> NDArray[np.intp]:
    """Return the positions of the ten documents of highest cosine, best first: [queries, 10].

    Args:
        queries: [n, d].
        documents: [m, d].
        itself: query -> the document that must not be found, by position.
    """
    found = []
    for start in range(0, len(queries), STEP):
        similar = queries[start : start + STEP] @ documents.T
        for query, document in itself.items():
            if start <= query < start + STEP:
                similar[query - start, document] = -np.inf
        top = np.argpartition(-similar, min(K, similar.shape[1]) - 1, axis=1)[:, :K]
        order = np.argsort(-np.take_along_axis(similar, top, axis=1), axis=1, kind="stable")
        found.append(np.take_along_axis(top, order, axis=1))
    return np.concatenate(found)


def _evaluated(
    queries: Vectors, documents: Vectors, nearest: NDArray[np.intp], arrays: Mapping[str, Any], part: str
) -> dict[str, float]:
    import pytrec_eval

    relevant = json.loads(str(arrays[f"{part}/relevant"]))
    names, ids = arrays[f"{part}/document/ids"], arrays[f"{part}/query/ids"]
    ranked = {
        str(query): {str(names[at]): float(vector @ documents[at]) for at in row}
        for query, vector, row in zip(ids, queries, nearest, strict=True)
    }
    judged = pytrec_eval.RelevanceEvaluator(relevant, {"recall.10", "ndcg_cut.10"}).evaluate(ranked)
    return {
        f"{name}_at_10": float(np.mean([row[key] for row in judged.values()]))
        for name, key in (("recall", "recall_10"), ("ndcg", "ndcg_cut_10"))
    }
