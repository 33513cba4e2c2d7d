"""Which variants may share an index: queries by one, documents by another, on every retrieval task.

A service that swaps its variant keeps its index. Neither a common name nor close cosines prove that this works.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from embed_foundry.encoders.vectors import Vectors
from numpy.typing import NDArray

from stages.common.records.scores import MixedIndex
from stages.common.sources.suite_files import MtebTask

if TYPE_CHECKING:
    from stages.quality.mteb_encoder import MtebEncoder

K = 10
DOCUMENTS_MAX = 100_000
# Queries per matrix product: 400 MB of similarities with DOCUMENTS_MAX documents.
STEP = 1000
DIGITS = 6
# An npz file's content.
Arrays = dict[str, Any]


@dataclass(frozen=True)
class EncodedSubset:
    """One subset and split of a retrieval task as one variant encoded it.

    Attributes:
        query_ids, document_ids: in the task's order: [queries] and [documents].
        query_vectors, document_vectors: full vectors: float32 [queries, d] and [documents, d].
        relevant: query id -> document id -> relevance.
        ignore_identical_ids: whether a document with the query's own id does not count as found.
    """

    query_ids: NDArray[np.str_]
    query_vectors: Vectors
    document_ids: NDArray[np.str_]
    document_vectors: Vectors
    relevant: dict[str, dict[str, int]]
    ignore_identical_ids: bool

    def to_arrays(self) -> Arrays:
        """Return the arrays that `from_arrays` reads back."""
        relevant = np.array(json.dumps(self.relevant, sort_keys=True))
        return vars(self) | {"relevant": relevant, "ignore_identical_ids": np.array(self.ignore_identical_ids)}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> "EncodedSubset":
        """Return the subset that `to_arrays` gave."""
        relevant, ignored = json.loads(str(arrays["relevant"])), bool(arrays["ignore_identical_ids"])
        return cls(**{**arrays, "relevant": relevant, "ignore_identical_ids": ignored})


def save_vectors(path: Path, task: MtebTask, encoder: "MtebEncoder") -> bool:
    """Write what a retrieval task's last evaluation encoded, and what is relevant, as one npz file.

    Returns whether the file was written: nothing is kept of a corpus with more than DOCUMENTS_MAX documents.

    Args:
        path: the file.
        task: the mteb task, evaluated.
        encoder: the encoder that mteb evaluated.
    """
    arrays: Arrays = {}
    for (subset, split), sides in sorted(encoder.encoded.items()):
        queries, documents = sides["query"], sides["document"]
        if len(documents.ids) > DOCUMENTS_MAX:
            return False
        data = task.dataset[split] if split in task.dataset else task.dataset[subset][split]
        encoded = EncodedSubset(
            query_ids=np.array(queries.ids),
            query_vectors=encoder.vectors_of(queries),
            document_ids=np.array(documents.ids),
            document_vectors=encoder.vectors_of(documents),
            relevant=data["relevant_docs"],
            ignore_identical_ids=bool(task.ignore_identical_ids),
        )
        arrays |= {f"{subset}|{split}/{name}": array for name, array in encoded.to_arrays().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez(file, **arrays)
    return True


def load_vectors(path: Path) -> dict[str, EncodedSubset]:
    """Return "subset|split" -> what `save_vectors` wrote of it."""
    parts: dict[str, Arrays] = {}
    for key, array in np.load(path, allow_pickle=False).items():
        part, _, name = key.rpartition("/")
        parts.setdefault(part, {})[name] = array
    return {part: EncodedSubset.from_arrays(arrays) for part, arrays in parts.items()}


def score_mixed_indexes(files: Mapping[str, Path]) -> dict[str, dict[str, MixedIndex]]:
    """Return query variant -> index variant -> figures on one task, for variants with vectors of one length.

    Args:
        files: variant -> the file that `save_vectors` wrote for the task.
    """
    loaded = {name: load_vectors(path) for name, path in files.items()}
    result: dict[str, dict[str, MixedIndex]] = {name: {} for name in loaded}
    parts = sorted({part for subsets in loaded.values() for part in subsets})
    for asking, holding in product(loaded, loaded):
        figures = [_score_pair(loaded[asking][part], loaded[holding][part], part) for part in parts]
        complete = [subset for subset in figures if subset]
        if complete and len(complete) == len(figures):
            result[asking][holding] = MixedIndex(
                **{
                    name: round(sum(subset[name] for subset in complete) / len(complete), DIGITS)
                    for name in complete[0]
                }
            )
    return result


def _score_pair(asking: EncodedSubset, holding: EncodedSubset, part: str) -> dict[str, float] | None:
    """Return MixedIndex's figures on one subset; None if the vectors differ in length."""
    if asking.query_vectors.shape[1] != holding.document_vectors.shape[1]:
        return None
    # Vectors pair up by position: without this check, another order would look like bad quality.
    if not np.array_equal(asking.query_ids, holding.query_ids):
        raise ValueError(f"{part}: the variants encoded different queries")
    own_documents: dict[int, int] = {}
    if holding.ignore_identical_ids:
        positions = {name: position for position, name in enumerate(holding.document_ids.tolist())}
        own_documents = {
            row: positions[query] for row, query in enumerate(asking.query_ids.tolist()) if query in positions
        }
    mixed, unmixed = (
        _find_nearest(vectors, holding.document_vectors, own_documents)
        for vectors in (asking.query_vectors, holding.query_vectors)
    )
    shared = [len(set(left) & set(right)) for left, right in zip(mixed.tolist(), unmixed.tolist(), strict=True)]
    return _score_ranking(asking, holding, mixed) | {"overlap_at_10": float(np.mean(shared)) / mixed.shape[1]}


def _find_nearest(queries: Vectors, documents: Vectors, excluded: Mapping[int, int]) -> NDArray[np.intp]:
    """Return the positions of the ten documents of highest cosine, best first: [queries, 10].

    Args:
        queries: [n, d].
        documents: [m, d].
        excluded: query -> the document that must not be found, by position.
    """
    nearest = []
    for start in range(0, len(queries), STEP):
        similar = queries[start : start + STEP] @ documents.T
        for query, document in excluded.items():
            if start <= query < start + STEP:
                similar[query - start, document] = -np.inf
        top = np.argpartition(-similar, min(K, similar.shape[1]) - 1, axis=1)[:, :K]
        order = np.argsort(-np.take_along_axis(similar, top, axis=1), axis=1, kind="stable")
        nearest.append(np.take_along_axis(top, order, axis=1))
    return np.concatenate(nearest)


def _score_ranking(asking: EncodedSubset, holding: EncodedSubset, nearest: NDArray[np.intp]) -> dict[str, float]:
    """Return recall and ndcg, means over the queries, as pytrec_eval defines them."""
    import pytrec_eval

    ranked = {
        str(query): {
            str(holding.document_ids[document]): float(vector @ holding.document_vectors[document]) for document in row
        }
        for query, vector, row in zip(asking.query_ids, asking.query_vectors, nearest, strict=True)
    }
    scores = pytrec_eval.RelevanceEvaluator(holding.relevant, {"recall.10", "ndcg_cut.10"}).evaluate(ranked)
    return {
        f"{name}_at_10": float(np.mean([query[measure] for query in scores.values()]))
        for name, measure in (("recall", "recall_10"), ("ndcg", "ndcg_cut_10"))
    }
