"""Stock mteb tasks: mteb's own class, metadata, prompts and settings, with the data that the data stage wrote."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.common.sources.suite_files import RetrievalSplit, Rows, TaskFiles, layout_of


def task(record: Mapping[str, Any], folder: Path) -> Any:  # noqa: ANN401 - mteb has no types
    """Return the stock task of one record, restricted to its splits and subsets, with the data of its folder.

    Args:
        record: an entry of tasks.json whose package is mteb.
        folder: the task's files.

    Raises:
        FileNotFoundError: a file is missing.
    """
    import mteb
    from datasets import DatasetDict

    subsets, splits = list(record["languages"]), list(record["splits"])
    made = mteb.get_task(record["name"], eval_splits=splits, hf_subsets=subsets)
    # mteb's results name the revision: of a user's files it must not be the hub's.
    pinned = {**made.metadata.dataset, "revision": record["revision"]}
    made.metadata = made.metadata.model_copy(update={"dataset": pinned})
    layout = layout_of(made)
    files = TaskFiles(folder, layout)
    loaded: dict[str, Any] = {}
    for subset in subsets if layout.subset_folders else ["default"]:
        loaded[subset] = {} if layout.retrieval else DatasetDict()
        for split in layout.splits:
            if layout.retrieval:
                content = files.read_retrieval(subset, split)
                loaded[subset][split] = retrieval(content)
                if content.changed is not None:
                    _instructions(made, content.changed)
            else:
                loaded[subset][split] = table(files.read_rows(subset, split))
    made.dataset = loaded if layout.subset_folders or layout.retrieval else loaded["default"]
    made.data_loaded = True
    return made


def _instructions(made: Any, changed: Mapping[str, list[str]]) -> None:  # noqa: ANN401
    """Give a FollowIR task its changed relevance: mteb's own method would ask the hub for it while it scores."""
    from mteb._evaluators.retrieval_metrics import evaluate_p_mrr_change

    def scores(_: object, relevant: Any, results: Any, **__: object) -> Any:  # noqa: ANN401
        return evaluate_p_mrr_change(relevant, results, changed, made.k_values)

    made.task_specific_scores = scores


def retrieval(content: RetrievalSplit) -> dict[str, Any]:
    """Return one split of a retrieval task as mteb takes it."""
    return {
        "queries": table(content.queries),
        "corpus": table(content.corpus),
        "relevant_docs": content.relevant,
        "top_ranked": content.ranked,
    }


def table(rows: Rows) -> Any:  # noqa: ANN401
    """Return rows as a Dataset."""
    from datasets import Dataset

    return Dataset.from_list(list(rows))
