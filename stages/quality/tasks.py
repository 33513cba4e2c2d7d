"""mteb tasks over the files of data/: stock ones by their name, ours from mteb's task classes."""

from pathlib import Path

from embed_foundry import InputError

from stages.common.records.tasks import TaskRecord
from stages.common.sources.suite_files import BUILTIN_LAYOUTS, MtebTask, TaskFiles, layout_of
from stages.quality.task_data import attach_data

# Type of a builtin task -> its class in mteb.abstasks.
CLASSES = {
    "Retrieval": "AbsTaskRetrieval",
    "Classification": "AbsTaskClassification",
    "Clustering": "AbsTaskClustering",
    "BitextMining": "AbsTaskBitextMining",
    "STS": "AbsTaskSTS",
}
# Class attributes. mteb clusters samples of 4 % of large sets by default; ours are small, so all texts take part.
SETTINGS: dict[str, dict[str, object]] = {
    "Retrieval": {"k_values": (1, 3, 5, 10, 20, 100)},
    "Clustering": {"max_fraction_of_documents_to_embed": None, "max_documents_per_cluster": 1024},
}


def load_task(record: TaskRecord, folder: Path) -> MtebTask:
    """Return a task as mteb evaluates it, with its data.

    Args:
        record: the task.
        folder: its files.

    Raises:
        InputError: the type is unknown, or a file is missing.
    """
    try:
        return _load_stock_task(record, folder) if record.stock else _load_builtin_task(record, folder)
    except FileNotFoundError as error:
        raise InputError(f"task {record.name}: {error.filename} is missing. Next: dvc repro data.") from None


def _load_stock_task(record: TaskRecord, folder: Path) -> MtebTask:
    """Return mteb's own task with its metadata, prompts and settings, restricted to the record's splits and subsets."""
    import mteb

    subsets = list(record.languages)
    task = mteb.get_task(record.name, eval_splits=record.evaluation_splits, hf_subsets=subsets)
    # mteb's results name the revision: that of a user's files must not be the hub's.
    dataset = {**task.metadata.dataset, "revision": record.revision}
    task.metadata = task.metadata.model_copy(update={"dataset": dataset})
    attach_data(task, TaskFiles(folder, layout_of(task)), subsets)
    return task


def _load_builtin_task(record: TaskRecord, folder: Path) -> MtebTask:
    from mteb import abstasks
    from mteb.abstasks.task_metadata import TaskMetadata

    if record.type not in CLASSES:
        raise InputError(f"task {record.name}: type {record.type!r} is unknown; there are {sorted(CLASSES)}.")
    layout = BUILTIN_LAYOUTS[record.type]
    metadata = TaskMetadata(
        name=record.name,
        type=record.type,
        description=record.description,
        dataset={"path": f"local/{record.name}", "revision": record.version},
        reference=record.reference,
        eval_langs=record.languages if layout.subset_folders else record.languages["default"],
        main_score=record.main_score,
    )
    base = getattr(abstasks, CLASSES[record.type])
    task = type(record.name, (base,), {"metadata": metadata, **SETTINGS.get(record.type, {})})()
    attach_data(task, TaskFiles(folder, layout), list(record.languages))
    return task
