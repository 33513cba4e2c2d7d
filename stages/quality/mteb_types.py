"""What this room uses of mteb's objects: mteb and datasets are not type-checked here."""

from collections.abc import Mapping
from typing import Any, Protocol

# One batch of a DataLoader: "text", and for retrieval tasks "id".
Batch = Mapping[str, list[str]]
# The rows of one split: a datasets.Dataset, or a retrieval task's mapping of queries, corpus and relevance.
Rows = Any
# What mteb predicted for one split; its form depends on the task's type.
Predictions = Any
# mteb's own scores of one subset in one split.
SubsetScores = Mapping[str, Any]
# split -> subset -> scores.
SplitScores = Mapping[str, Mapping[str, SubsetScores]]


class TaskMetadata(Protocol):
    """What mteb says about a task."""

    name: str
    type: str
    main_score: str


class MtebTask(Protocol):
    """A task with its data loaded.

    Attributes:
        metadata: its name, type and main score.
        dataset: [subset ->] split -> rows.
        eval_splits: the splits that it is evaluated on.
        label_column_name: classification and pair classification only.
        ignore_identical_ids, skip_first_result: retrieval and reranking only: documents that do not count as found.
    """

    metadata: TaskMetadata
    dataset: Any
    eval_splits: list[str]
    label_column_name: str
    ignore_identical_ids: bool
    skip_first_result: bool
