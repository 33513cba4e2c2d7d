"""What the files of a stock mteb task hold: one table from mteb's task classes to columns."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from embed_foundry.errors import InputError

# What a column holds. A label is a whole number or a word; lists stand in one cell.
TEXT, NUMBER, LABEL, TEXTS, NUMBERS, LABELS, LABEL_OR_LABELS = (
    "a text", "a number", "a label", "a list of texts", "a list of numbers", "a list of labels",
    "a label or a list of labels",
)  # fmt: skip
RERANKING = ("Reranking", "InstructionReranking")


@dataclass(frozen=True)
class Shape:
    """The files of one task.

    Attributes:
        splits: names of the splits that mteb reads, training included.
        columns: column -> what it holds; empty for retrieval.
        retrieval: corpus, queries and relevance instead of rows.
        ranked: each query brings the documents to rank.
        changed: instructions come in pairs, and a file says which relevance the second changes (FollowIR's p-MRR).
        parallel: one table whose columns are languages; a subset is a pair of them.
    """

    splits: tuple[str, ...]
    columns: Mapping[str, str] = field(default_factory=dict)
    retrieval: bool = False
    ranked: bool = False
    changed: bool = False
    parallel: bool = False


@dataclass(frozen=True)
class Retrieval:
    """One split of a retrieval or reranking task.

    Attributes:
        corpus: {id, title?, text} each.
        queries: {id, text, instruction?} each.
        relevant: query id -> document id -> relevance.
        ranked: query id -> ids of the documents to rank.
        changed: query id without -og or -changed -> ids of the documents whose relevance changes.
    """

    corpus: Iterable[Mapping[str, Any]]
    queries: Iterable[Mapping[str, Any]]
    relevant: Mapping[str, Mapping[str, int]]
    ranked: Mapping[str, list[str]] | None = None
    changed: Mapping[str, list[str]] | None = None


Rows = Iterable[Mapping[str, Any]]


def shape(task: Any) -> Shape:  # noqa: ANN401 - mteb has no types
    """Return what the files of a task hold.

    Raises:
        InputError: the task is of no kind that text encoders are measured on here.
    """
    from mteb import abstasks

    if task.is_aggregate:
        parts = ", ".join(part.metadata.name for part in task.metadata.tasks)
        raise InputError(f"task {task.metadata.name}: only averages others. Take those instead: {parts}.")
    kind, splits = task.metadata.type, tuple(task.eval_splits)
    if list(task.metadata.modalities) != ["text"]:
        raise InputError(
            f"task {task.metadata.name}: takes {', '.join(task.metadata.modalities)}, only text is measured here. "
            "Leave it out of suite.tasks."
        )
    if isinstance(task, abstasks.AbsTaskRetrieval):
        changed = task.metadata.main_score == "p-MRR"
        if changed and task.metadata.is_multilingual:
            raise InputError(f"task {task.metadata.name}: p-MRR is measured of one language. Leave it out.")
        return Shape(splits, retrieval=True, ranked=kind in RERANKING, changed=changed)
    if isinstance(task, abstasks.AbsTaskClassification):  # multilabel tasks are of this class too
        several = isinstance(task, abstasks.AbsTaskMultilabelClassification)
        columns = {task.input_column_name: TEXT, task.label_column_name: LABELS if several else LABEL}
        return Shape(tuple(dict.fromkeys((task.train_split, *splits))), columns)
    if isinstance(task, abstasks.AbsTaskSTS):
        return Shape(splits, {task.column_names[0]: TEXT, task.column_names[1]: TEXT, "score": NUMBER})
    if isinstance(task, abstasks.AbsTaskPairClassification):
        pair = {task.input1_column_name: TEXT, task.input2_column_name: TEXT}
        return Shape(splits, {**pair, task.label_column_name: LABEL})
    if isinstance(task, abstasks.AbsTaskClusteringLegacy):
        return Shape(splits, {task.input_column_name: TEXTS, task.label_column_name: LABELS})
    if isinstance(task, abstasks.AbsTaskClustering):
        return Shape(splits, {task.input_column_name: TEXT, task.label_column_name: LABEL_OR_LABELS})
    if isinstance(task, abstasks.AbsTaskBitextMining):
        if task.parallel_subsets:
            codes = dict.fromkeys(code for pair in task.hf_subsets for code in pair.split("-"))
            return Shape(splits, dict.fromkeys(codes, TEXT), parallel=True)
        return Shape(splits, {"sentence1": TEXT, "sentence2": TEXT})
    if isinstance(task, abstasks.AbsTaskSummarization):
        texts = {task.human_summaries_column_name: TEXTS, task.machine_summaries_column_name: TEXTS}
        return Shape(splits, {task.text_column_name: TEXT, **texts, task.relevancy_column_name: NUMBERS})
    raise InputError(f"task {task.metadata.name}: type {kind} is not measured here. Leave it out of suite.tasks.")
