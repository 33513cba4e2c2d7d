"""Per-sample values from mteb's predictions: what a paired comparison of two variants needs.

Ids and order depend on the task alone, so that two variants' values pair up by position.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from embed_foundry import IntegrityError

DIGITS = 6
NUMBERS = ("left", "right")
Values = dict[str, list[float]]
Columns = Mapping[str, Sequence[float]]
# mteb's name of a measure, without its depth -> trec_eval's.
TREC = {"ndcg": "ndcg_cut", "map": "map_cut", "recall": "recall", "precision": "P", "hit_rate": "success"}


def values(task: Any, predictions: Path, scores: Mapping[str, Any]) -> dict[str, Values]:  # noqa: ANN401
    """Return subset -> {name: values}: one value a sample, split after split; {} where a type has none.

    Retrieval: "ndcg_at_10" a query, in the order of query ids, and the task's main score if that is another one.
    Reranking: the main score a query. Classification: "accuracy" a test text, its mean over mteb's experiments.
    BitextMining: "accuracy" a pair. STS: "cosine" and "gold" a pair, and the numbers of its texts, "left" and "right",
    by which pairs that share a text are known. PairClassification: "cosine" and "label" a pair.
    Clustering: "v_measure" a bootstrap or set of texts, for a single text has none.

    Args:
        task: the mteb task, evaluated.
        predictions: the folder that mteb wrote its predictions to.
        scores: split -> subset -> mteb's scores.

    Raises:
        IntegrityError: mteb predicted for more or fewer samples than the task has.
    """
    splits = list(task.eval_splits)
    if task.metadata.type == "Clustering":
        return {
            subset: {"v_measure": [round(value, DIGITS) for split in splits for value in _flat(scores[split][subset])]}
            for subset in sorted(scores[splits[0]])
        }
    read = READERS.get(task.metadata.type)
    if read is None or getattr(task, "is_cross_validation", False):  # folds predict in an order of their own
        return {subset: {} for subset in sorted(scores[splits[0]])}
    found = json.loads((predictions / f"{task.metadata.name}_predictions.json").read_text(encoding="utf-8"))
    result: dict[str, Values] = {}
    for subset in sorted(scores[splits[0]]):
        drawn: Values = {}
        for split in splits:
            rows = _rows(task, subset, split)
            guesses = found["parallel"][split][subset] if _parallel(task) else found[subset][split]
            columns = read(task, rows, guesses)
            expected = _length(rows)
            if wrong := {name: len(column) for name, column in columns.items() if len(column) != expected}:
                raise IntegrityError(f"task {task.metadata.name}/{subset}: {wrong} predictions, expected {expected}.")
            # Numbers of texts go on from split to split.
            before = 1 + max((max(drawn[name]) for name in NUMBERS if drawn.get(name)), default=-1)
            for name, column in columns.items():
                shift = before if name in NUMBERS else 0
                drawn.setdefault(name, []).extend(round(float(value) + shift, DIGITS) for value in column)
        result[subset] = drawn
    return result


def count(task: Any, drawn: Mapping[str, Values]) -> int:  # noqa: ANN401
    """Return how many samples a task's score stands on: its values, or its rows where a type has no values."""
    subsets = {subset: next(iter(found.values()), None) for subset, found in drawn.items()}
    return sum(
        sum(_length(_rows(task, subset, split)) for split in task.eval_splits) if column is None else len(column)
        for subset, column in subsets.items()
    )


def _parallel(task: Any) -> bool:  # noqa: ANN401
    return bool(getattr(task, "parallel_subsets", False))


def _rows(task: Any, subset: str, split: str) -> Any:  # noqa: ANN401
    data = task.dataset
    return data[split] if _parallel(task) or (subset == "default" and subset not in data) else data[subset][split]


def _length(rows: Any) -> int:  # noqa: ANN401
    return len(rows["queries"]) if isinstance(rows, Mapping) and "queries" in rows else len(rows)


def _flat(found: Mapping[str, Any]) -> list[float]:
    """Return all v-measures: by level for sampled clustering, a plain list for clustering of given sets."""
    levels = found["v_measures"]
    return list(chain.from_iterable(levels.values())) if isinstance(levels, Mapping) else list(levels)


def _retrieval(task: Any, split: Mapping[str, Any], ranked: Mapping[str, Mapping[str, float]]) -> Columns:  # noqa: ANN401
    import pytrec_eval

    names = [] if task.metadata.type == "Reranking" else ["ndcg_at_10"]
    kind, _, depth = task.metadata.main_score.rpartition("_at_")
    if kind in TREC:
        names = list(dict.fromkeys([*names, task.metadata.main_score]))
    if task.ignore_identical_ids:  # as mteb does before it scores
        ranked = {query: {d: score for d, score in found.items() if d != query} for query, found in ranked.items()}
    if task.skip_first_result:
        ranked = {query: dict(_by_score(found)[1:]) for query, found in ranked.items()}
    columns = {}
    for name in names:
        kind, _, depth = name.rpartition("_at_")
        judged = pytrec_eval.RelevanceEvaluator(split["relevant_docs"], {f"{TREC[kind]}.{depth}"}).evaluate(ranked)
        columns[name] = [judged[query][f"{TREC[kind]}_{depth}"] for query in sorted(judged)]
    return columns


def _by_score(found: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(found.items(), key=lambda item: item[1], reverse=True)


def _classification(task: Any, split: Any, experiments: Sequence[Sequence[Any]]) -> Columns:  # noqa: ANN401
    labels = list(split[task.label_column_name])
    hits = [[guess == label for guess, label in zip(guesses, labels, strict=True)] for guesses in experiments]
    return {"accuracy": [sum(column) / len(hits) for column in zip(*hits, strict=True)]}


def _bitext(task: Any, split: Any, found: Any) -> Columns:  # noqa: ANN401
    nearest = found if _parallel(task) else next(iter(found.values()))
    return {"accuracy": [float(row["corpus_id"] == at) for at, row in enumerate(nearest)]}


def _sts(task: Any, split: Any, scores: Mapping[str, Any]) -> Columns:  # noqa: ANN401
    pairs = [list(split[f"sentence{side}"]) for side in (1, 2)]
    numbers = {text: at for at, text in enumerate(dict.fromkeys(chain(*pairs)))}
    left, right = ([numbers[text] for text in side] for side in pairs)
    return {"cosine": scores["cosine_scores"], "gold": list(split["score"]), "left": left, "right": right}


def _pairs(task: Any, split: Any, scores: Mapping[str, Any]) -> Columns:  # noqa: ANN401
    return {"cosine": scores["cosine_scores"], "label": list(split[task.label_column_name])}


READERS: dict[str, Callable[[Any, Any, Any], Columns]] = {
    "Retrieval": _retrieval,
    "Reranking": _retrieval,
    "Classification": _classification,
    "BitextMining": _bitext,
    "STS": _sts,
    "PairClassification": _pairs,
}
