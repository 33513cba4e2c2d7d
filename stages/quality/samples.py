"""Per-sample values from mteb's predictions: what a paired comparison of two variants needs.

Ids and order depend on the task alone, so that two variants' values pair up by position.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

from embed_foundry import IntegrityError

from stages.common.records.scores import Columns, TaskSamples
from stages.common.sources.suite_files import MtebTask
from stages.quality.mteb_types import Predictions, SplitRows, SplitScores, SubsetScores

DIGITS = 6
# Columns that number texts.
TEXT_NUMBERS = ("left", "right")
# Values of one split, not rounded yet.
SplitColumns = Mapping[str, Sequence[float]]
# mteb's name of a measure, without its depth -> trec_eval's.
TREC = {"ndcg": "ndcg_cut", "map": "map_cut", "recall": "recall", "precision": "P", "hit_rate": "success"}


def read_samples(task: MtebTask, predictions: Path, scores: SplitScores) -> TaskSamples:
    """Return subset -> column -> one value a sample; the columns are those of records.scores.Samples.

    Args:
        task: the mteb task, evaluated.
        predictions: the folder that mteb wrote its predictions to.
        scores: mteb's own scores.

    Raises:
        IntegrityError: mteb predicted for more or fewer samples than the task has.
    """
    splits = list(task.eval_splits)
    subsets = sorted(scores[splits[0]])
    if task.metadata.type == "Clustering":
        return {subset: {"v_measure": _v_measures(scores[split][subset] for split in splits)} for subset in subsets}
    reader = READERS.get(task.metadata.type)
    if reader is None or getattr(task, "is_cross_validation", False):  # folds predict in an order of their own
        return {subset: {} for subset in subsets}
    path = predictions / f"{task.metadata.name}_predictions.json"
    predicted = json.loads(path.read_text(encoding="utf-8"))
    result: TaskSamples = {}
    for subset in subsets:
        columns: Columns = {}
        for split in splits:
            rows = _rows(task, subset, split)
            split_columns = reader(
                task, rows, predicted["parallel"][split][subset] if _is_parallel(task) else predicted[subset][split]
            )
            _require_length(split_columns, _count_rows(rows), f"{task.metadata.name}/{subset}")
            _append(columns, split_columns)
        result[subset] = columns
    return result


def count_samples(task: MtebTask, samples: TaskSamples) -> int:
    """Return how many samples a task's score stands on: its values, or its rows where a type has no values."""
    first_columns = {subset: next(iter(columns.values()), None) for subset, columns in samples.items()}
    return sum(
        sum(_count_rows(_rows(task, subset, split)) for split in task.eval_splits) if column is None else len(column)
        for subset, column in first_columns.items()
    )


def _require_length(columns: SplitColumns, expected: int, name: str) -> None:
    if wrong := {column: len(values) for column, values in columns.items() if len(values) != expected}:
        raise IntegrityError(f"task {name}: {wrong} predictions, expected {expected}.")


def _append(columns: Columns, split_columns: SplitColumns) -> None:
    """Append one split's values; its texts are numbered after those of the splits before it."""
    first_number = 1 + max((max(columns[name]) for name in TEXT_NUMBERS if columns.get(name)), default=-1)
    for name, values in split_columns.items():
        shift = first_number if name in TEXT_NUMBERS else 0
        columns.setdefault(name, []).extend(round(float(value) + shift, DIGITS) for value in values)


def _is_parallel(task: MtebTask) -> bool:
    return bool(getattr(task, "parallel_subsets", False))


def _rows(task: MtebTask, subset: str, split: str) -> SplitRows:
    data = task.dataset
    return data[split] if _is_parallel(task) or (subset == "default" and subset not in data) else data[subset][split]


def _count_rows(rows: SplitRows) -> int:
    return len(rows["queries"]) if isinstance(rows, Mapping) and "queries" in rows else len(rows)


def _v_measures(scores: Iterable[SubsetScores]) -> list[float]:
    """Return all v-measures: mteb has them by level for sampled clustering, as a list for clustering of given sets."""
    values: list[float] = []
    for split in scores:
        levels = split["v_measures"]
        values += chain.from_iterable(levels.values()) if isinstance(levels, Mapping) else levels
    return [round(value, DIGITS) for value in values]


def _retrieval(task: MtebTask, rows: SplitRows, ranked: Predictions) -> SplitColumns:
    import pytrec_eval

    names = [] if task.metadata.type == "Reranking" else ["ndcg_at_10"]
    if task.metadata.main_score.rpartition("_at_")[0] in TREC:
        names = list(dict.fromkeys([*names, task.metadata.main_score]))
    if task.ignore_identical_ids:  # as mteb does before it scores
        ranked = {query: {d: score for d, score in scores.items() if d != query} for query, scores in ranked.items()}
    if task.skip_first_result:
        ranked = {query: dict(_sort_by_score(scores)[1:]) for query, scores in ranked.items()}
    columns = {}
    for name in names:
        measure, _, depth = name.rpartition("_at_")
        evaluator = pytrec_eval.RelevanceEvaluator(rows["relevant_docs"], {f"{TREC[measure]}.{depth}"})
        scores = evaluator.evaluate(ranked)
        columns[name] = [scores[query][f"{TREC[measure]}_{depth}"] for query in sorted(scores)]
    return columns


def _sort_by_score(scores: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(scores.items(), key=lambda item: item[1], reverse=True)


def _classification(task: MtebTask, rows: SplitRows, experiments: Predictions) -> SplitColumns:
    labels = list(rows[task.label_column_name])
    hits = [[guess == label for guess, label in zip(guesses, labels, strict=True)] for guesses in experiments]
    return {"accuracy": [sum(column) / len(hits) for column in zip(*hits, strict=True)]}


def _bitext(task: MtebTask, _: SplitRows, predictions: Predictions) -> SplitColumns:
    nearest = predictions if _is_parallel(task) else next(iter(predictions.values()))
    return {"accuracy": [float(row["corpus_id"] == index) for index, row in enumerate(nearest)]}


def _sts(_: MtebTask, rows: SplitRows, scores: Predictions) -> SplitColumns:
    pairs = [list(rows[f"sentence{side}"]) for side in (1, 2)]
    numbers = {text: number for number, text in enumerate(dict.fromkeys(chain(*pairs)))}
    left, right = ([numbers[text] for text in side] for side in pairs)
    return {"cosine": scores["cosine_scores"], "gold": list(rows["score"]), "left": left, "right": right}


def _pair_classification(task: MtebTask, rows: SplitRows, scores: Predictions) -> SplitColumns:
    return {"cosine": scores["cosine_scores"], "label": list(rows[task.label_column_name])}


READERS: dict[str, Callable[[MtebTask, SplitRows, Predictions], SplitColumns]] = {
    "Retrieval": _retrieval,
    "Reranking": _retrieval,
    "Classification": _classification,
    "BitextMining": _bitext,
    "STS": _sts,
    "PairClassification": _pair_classification,
}
