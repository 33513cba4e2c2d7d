"""The layout of a stock mteb task: one table from mteb's task classes to columns."""

from collections.abc import Callable
from typing import Any

from embed_foundry.errors import InputError

from stages.common.sources.suite_files.layout import ColumnType, TaskLayout

# A task object of mteb, which has no types.
MtebTask = Any
RERANKING = ("Reranking", "InstructionReranking")
TEXT, NUMBER, LABEL = ColumnType.TEXT, ColumnType.NUMBER, ColumnType.LABEL
TEXTS, NUMBERS, LABELS = ColumnType.TEXTS, ColumnType.NUMBERS, ColumnType.LABELS


def layout_of(task: MtebTask) -> TaskLayout:
    """Return the layout of a task's files.

    Raises:
        InputError: text encoders are not measured on tasks like this one.
    """
    from mteb import abstasks

    _require_supported(task)
    splits, multilingual = tuple(task.eval_splits), bool(task.metadata.is_multilingual)
    if isinstance(task, abstasks.AbsTaskRetrieval):
        changed = task.metadata.main_score == "p-MRR"
        if changed and multilingual:
            raise InputError(
                f"task {task.metadata.name}: p-MRR is measured on monolingual tasks only. Leave it out of suite.tasks."
            )
        return TaskLayout(
            splits,
            subset_folders=multilingual,
            retrieval=True,
            ranked=task.metadata.type in RERANKING,
            changed=changed,
        )
    columns_of = next(columns_of for name, columns_of in _COLUMNS.items() if isinstance(task, getattr(abstasks, name)))
    parallel = bool(getattr(task, "parallel_subsets", False))
    training = [task.train_split] if hasattr(task, "train_split") else []
    return TaskLayout(
        tuple(dict.fromkeys([*training, *splits])),
        columns_of(task),
        subset_folders=multilingual and not parallel,
        parallel=parallel,
    )


def _require_supported(task: MtebTask) -> None:
    from mteb import abstasks

    if task.is_aggregate:
        parts = ", ".join(part.metadata.name for part in task.metadata.tasks)
        raise InputError(f"task {task.metadata.name}: only averages others. Take those instead: {parts}.")
    if list(task.metadata.modalities) != ["text"]:
        raise InputError(
            f"task {task.metadata.name}: takes {', '.join(task.metadata.modalities)}, only text is measured here. "
            "Leave it out of suite.tasks."
        )
    supported = tuple(getattr(abstasks, name) for name in ("AbsTaskRetrieval", *_COLUMNS))
    # mteb derives regression from classification, but its labels are numbers.
    if not isinstance(task, supported) or isinstance(task, abstasks.AbsTaskRegression):
        raise InputError(
            f"task {task.metadata.name}: type {task.metadata.type} is not measured here. Leave it out of suite.tasks."
        )


def _bitext_columns(task: MtebTask) -> dict[str, ColumnType]:
    if not task.parallel_subsets:
        return {"sentence1": TEXT, "sentence2": TEXT}
    return dict.fromkeys((code for pair in task.hf_subsets for code in pair.split("-")), TEXT)


# Class in mteb.abstasks -> columns of its rows. A subclass stands before its base class.
_COLUMNS: dict[str, Callable[[MtebTask], dict[str, ColumnType]]] = {
    "AbsTaskMultilabelClassification": lambda task: {task.input_column_name: TEXT, task.label_column_name: LABELS},
    "AbsTaskClassification": lambda task: {task.input_column_name: TEXT, task.label_column_name: LABEL},
    "AbsTaskSTS": lambda task: {task.column_names[0]: TEXT, task.column_names[1]: TEXT, "score": NUMBER},
    "AbsTaskPairClassification": lambda task: {
        task.input1_column_name: TEXT,
        task.input2_column_name: TEXT,
        task.label_column_name: ColumnType.BINARY,
    },
    "AbsTaskClusteringLegacy": lambda task: {task.input_column_name: TEXTS, task.label_column_name: LABELS},
    "AbsTaskClustering": lambda task: {
        task.input_column_name: TEXT,
        task.label_column_name: ColumnType.LABEL_OR_LABELS,
    },
    "AbsTaskBitextMining": _bitext_columns,
    "AbsTaskSummarization": lambda task: {
        task.text_column_name: TEXT,
        task.human_summaries_column_name: TEXTS,
        task.machine_summaries_column_name: TEXTS,
        task.relevancy_column_name: NUMBERS,
    },
}
