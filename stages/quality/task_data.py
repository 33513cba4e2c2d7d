"""A task's files in the form in which mteb would load them itself."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from stages.common.sources.suite_files import MtebTask, RetrievalSplit, Rows, TaskFiles

if TYPE_CHECKING:
    from datasets import Dataset


def attach_data(task: MtebTask, files: TaskFiles, subsets: Sequence[str]) -> None:
    """Read a task's files and give them to it, so that mteb asks no hub.

    Args:
        task: the mteb task.
        files: its files.
        subsets: the subsets that are evaluated.

    Raises:
        FileNotFoundError: a file is missing.
    """
    from datasets import DatasetDict

    layout, dataset = files.layout, {}
    for subset in subsets if layout.subset_folders else ["default"]:
        dataset[subset] = {} if layout.retrieval else DatasetDict()
        for split in layout.splits:
            if layout.retrieval:
                content = files.read_retrieval(subset, split)
                dataset[subset][split] = _retrieval_data(content)
                if content.changed is not None:
                    _attach_changed_relevance(task, content.changed)
            else:
                dataset[subset][split] = _dataset(files.read_rows(subset, split))
    if task.metadata.type == "Classification":
        _read_labels_at_once(task)
    task.dataset = dataset if layout.subset_folders or layout.retrieval else dataset["default"]
    task.data_loaded = True


def _retrieval_data(content: RetrievalSplit) -> dict[str, object]:
    """Return what mteb calls RetrievalSplitData."""
    return {
        "queries": _dataset(content.queries),
        "corpus": _dataset(content.corpus),
        "relevant_docs": content.relevant,
        "top_ranked": content.ranked,
    }


def _dataset(rows: Rows) -> "Dataset":
    from datasets import Dataset

    return Dataset.from_list(list(rows))


def _read_labels_at_once(task: MtebTask) -> None:
    """Give a classification's seven measures a list of labels: each would read them from Arrow one by one."""
    calculate_scores = task._calculate_scores

    def calculate(labels: Sequence[int], predictions: Sequence[int]) -> dict[str, float]:
        scores: dict[str, float] = calculate_scores(labels[:], predictions)
        return scores

    task._calculate_scores = calculate


def _attach_changed_relevance(task: MtebTask, changed: Mapping[str, list[str]]) -> None:
    """Give a FollowIR task its changed relevance: mteb's own method would ask the hub for it while it scores."""
    from mteb._evaluators.retrieval_metrics import evaluate_p_mrr_change

    def score(
        _: object,
        relevant: Mapping[str, Mapping[str, int]],
        results: Mapping[str, Mapping[str, float]],
        **__: object,
    ) -> dict[str, float]:
        scores: dict[str, float] = evaluate_p_mrr_change(relevant, results, changed, task.k_values)
        return scores

    task.task_specific_scores = score
