"""Per-sample values from mteb's predictions: what a paired comparison of two variants needs.

Ids and order depend on the task alone, so that two variants' values pair up by position.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from embed_foundry import IntegrityError

DIGITS = 6
Values = dict[str, list[float]]


def values(task: Any, predictions: Path, scores: Mapping[str, Any]) -> dict[str, Values]:  # noqa: ANN401
    """Return subset -> {name: values}: one value a sample.

    Retrieval: "ndcg_at_10" a query, in the order of query ids. Classification: "accuracy" a test text, its mean over
    mteb's experiments. BitextMining: "accuracy" a pair. STS: "cosine" and "gold" a pair, and the numbers of its texts,
    "left" and "right", by which pairs that share a text are known. Clustering: "v_measure" a
    bootstrap, for a single text has none.

    Args:
        task: the mteb task, evaluated.
        predictions: the folder that mteb wrote its predictions to.
        scores: mteb's scores by subset.

    Raises:
        IntegrityError: mteb predicted for more or fewer samples than the task has.
    """
    if task.metadata.type == "Clustering":
        levels = {subset: chain.from_iterable(found["v_measures"].values()) for subset, found in scores.items()}
        return {subset: {"v_measure": [round(value, DIGITS) for value in flat]} for subset, flat in levels.items()}
    found = json.loads((predictions / f"{task.metadata.name}_predictions.json").read_text(encoding="utf-8"))
    found.pop("mteb_model_meta", None)
    result = {}
    for subset, splits in sorted(found.items()):
        split = task.dataset if subset == "default" and "default" not in task.dataset else task.dataset[subset]
        rows = READERS[task.metadata.type](split["test"], splits["test"])
        expected = len(split["test"]["queries"] if task.metadata.type == "Retrieval" else split["test"])
        if wrong := {name: len(column) for name, column in rows.items() if len(column) != expected}:
            raise IntegrityError(f"task {task.metadata.name}/{subset}: {wrong} predictions, expected {expected}.")
        result[subset] = {name: [round(float(value), DIGITS) for value in column] for name, column in rows.items()}
    return result


def _retrieval(split: Mapping[str, Any], ranked: Mapping[str, Mapping[str, float]]) -> dict[str, Sequence[float]]:
    import pytrec_eval

    judged = pytrec_eval.RelevanceEvaluator(split["relevant_docs"], {"ndcg_cut.10"}).evaluate(ranked)
    return {"ndcg_at_10": [judged[query]["ndcg_cut_10"] for query in sorted(judged)]}


def _classification(split: Any, experiments: Sequence[Sequence[int]]) -> dict[str, Sequence[float]]:  # noqa: ANN401
    labels = list(split["label"])
    hits = [[guess == label for guess, label in zip(guesses, labels, strict=True)] for guesses in experiments]
    return {"accuracy": [sum(column) / len(hits) for column in zip(*hits, strict=True)]}


def _bitext(split: Any, found: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Sequence[float]]:  # noqa: ANN401
    (nearest,) = found.values()
    return {"accuracy": [float(row["corpus_id"] == at) for at, row in enumerate(nearest)]}


def _sts(split: Any, scores: Mapping[str, Any]) -> dict[str, Sequence[float]]:  # noqa: ANN401
    pairs = [list(split[f"sentence{side}"]) for side in (1, 2)]
    numbers = {text: at for at, text in enumerate(dict.fromkeys(chain(*pairs)))}
    left, right = ([numbers[text] for text in side] for side in pairs)
    return {"cosine": scores["cosine_scores"], "gold": list(split["score"]), "left": left, "right": right}


READERS: dict[str, Any] = {
    "Retrieval": _retrieval,
    "Classification": _classification,
    "BitextMining": _bitext,
    "STS": _sts,
}
