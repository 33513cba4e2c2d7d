"""data/tasks.json: the suite's tasks, as mteb needs to know them, and where their text comes from."""

from pathlib import Path
from typing import ClassVar, Literal

from stages.common.records.base import MappingRecord, SparseRecord

# mteb's task types that a suite may hold and a target may set limits on.
TaskType = Literal[
    "Retrieval",
    "Classification",
    "Clustering",
    "BitextMining",
    "STS",
    "PairClassification",
    "Reranking",
    "MultilabelClassification",
    "Summarization",
]


class TaskRecord(SparseRecord):
    """One task.

    Attributes:
        name: mteb's name, or ours.
        type: mteb's task type.
        description: one line.
        main_score: mteb's name of the metric.
        languages: subset -> ISO 639-3 language and script codes.
        license: of the text, SPDX id in lower case where it has one.
        reference: a page about the data.
        package: the installed distribution that carries the text, or "mteb" for a stock task.
        version: of the package.
        splits: the splits that a stock task is evaluated on; None for ours, which have "test".
        dataset: mteb's name of a stock task's dataset.
        revision: the hub's commit of it, or "local-" and a digest of a user's files.
        counts: whether a stock task's sample counts are as published, differ, or are not published.
    """

    name: str
    type: str
    description: str
    main_score: str
    languages: dict[str, list[str]]
    license: str
    reference: str
    package: str
    version: str = ""
    splits: list[str] | None = None
    dataset: str | None = None
    revision: str | None = None
    counts: str | None = None

    @property
    def stock(self) -> bool:
        """Whether it is mteb's own task, and not one of ours."""
        return self.package == "mteb"

    @property
    def evaluation_splits(self) -> list[str]:
        """Return the names of the splits that it is evaluated on."""
        return self.splits or ["test"]


class Tasks(MappingRecord[list[TaskRecord]]):
    """data/tasks.json: all of them, in the suite's order."""

    FILE: ClassVar[str] = "tasks.json"
    stage: ClassVar[str] = "data"
    root: list[TaskRecord]


def load_tasks(data: Path) -> list[TaskRecord]:
    """Return the tasks of a suite's folder.

    Raises:
        IntegrityError: tasks.json is missing or not what the data stage writes.
    """
    return Tasks.load(data / Tasks.FILE).root
