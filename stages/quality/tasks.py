"""mteb tasks over the files of data/: stock ones by their name, ours from mteb's task classes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embed_foundry import InputError

from stages.common.sources.suite_files import BUILTIN_LAYOUTS, TaskFiles
from stages.quality import stock

# mteb's task type -> its abstract class in mteb.abstasks.
CLASSES = {
    "Retrieval": "AbsTaskRetrieval",
    "Classification": "AbsTaskClassification",
    "Clustering": "AbsTaskClustering",
    "BitextMining": "AbsTaskBitextMining",
    "STS": "AbsTaskSTS",
}
# Class attributes. mteb clusters samples of 4 % of large sets by default; ours are small, so all texts take part.
SETTINGS: dict[str, dict[str, Any]] = {
    "Retrieval": {"k_values": (1, 3, 5, 10, 20, 100)},
    "Clustering": {"max_fraction_of_documents_to_embed": None, "max_documents_per_cluster": 1024},
}


def task(record: Mapping[str, Any], folder: Path) -> Any:  # noqa: ANN401 - mteb has no types
    """Return the mteb task of one record, with the data of its folder.

    Args:
        record: an entry of tasks.json.
        folder: the task's files; one folder a subset if it has several languages.

    Raises:
        InputError: the type is unknown, or a file is missing.
    """
    try:
        return stock.task(record, folder) if record["package"] == "mteb" else _own(record, folder)
    except FileNotFoundError as error:
        raise InputError(f"task {record['name']}: {error.filename} is missing. Next: dvc repro data.") from None


def _own(record: Mapping[str, Any], folder: Path) -> Any:  # noqa: ANN401 - mteb has no types
    from datasets import DatasetDict
    from mteb import abstasks
    from mteb.abstasks.task_metadata import TaskMetadata

    if record["type"] not in CLASSES:
        raise InputError(f"task {record['name']}: type {record['type']!r} is unknown; there are {sorted(CLASSES)}.")
    subsets = list(record["languages"])
    several = subsets != ["default"]
    metadata = TaskMetadata(
        name=record["name"],
        type=record["type"],
        description=record["description"],
        dataset={"path": f"local/{record['name']}", "revision": record["version"]},
        reference=record["reference"],
        eval_langs=record["languages"] if several else record["languages"]["default"],
        main_score=record["main_score"],
    )
    kind = getattr(abstasks, CLASSES[record["type"]])
    made = type(record["name"], (kind,), {"metadata": metadata, **SETTINGS.get(record["type"], {})})()
    layout = BUILTIN_LAYOUTS[record["type"]]
    files = TaskFiles(folder, layout)
    loaded: dict[str, Any] = {}
    for subset in subsets:
        if layout.retrieval:
            loaded[subset] = {split: stock.retrieval(files.read_retrieval(subset, split)) for split in layout.splits}
        else:
            loaded[subset] = DatasetDict(
                {split: stock.table(files.read_rows(subset, split)) for split in layout.splits}
            )
    made.dataset = loaded if several or layout.retrieval else loaded["default"]
    made.data_loaded = True
    return made
