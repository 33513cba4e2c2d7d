"""mteb tasks over the files of data/: stock ones by their name, ours from mteb's task classes."""

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from embed_foundry import InputError

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
    loaded = {name: READERS[record["type"]](folder / name if several else folder) for name in subsets}
    made.dataset = loaded if several or record["type"] == "Retrieval" else loaded["default"]
    made.data_loaded = True
    return made


def _columns(path: Path, **types: Callable[[str], Any]) -> Any:  # noqa: ANN401
    from datasets import Dataset

    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return Dataset.from_list([{name: cast(row[name]) for name, cast in types.items()} for row in rows])


def _retrieval(folder: Path) -> dict[str, Any]:
    return {"test": stock.retrieval(folder)}


def _splits(*names: str, **types: Callable[[str], Any]) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:  # noqa: ANN401
        from datasets import DatasetDict

        return DatasetDict({name: _columns(folder / f"{name}.csv", **types) for name in names})

    return read


READERS: dict[str, Callable[[Path], Any]] = {
    "Retrieval": _retrieval,
    "Classification": _splits("train", "test", text=str, label=int),
    "Clustering": _splits("test", sentences=str, labels=int),
    "BitextMining": _splits("test", sentence1=str, sentence2=str),
    "STS": _splits("test", sentence1=str, sentence2=str, score=float),
}
