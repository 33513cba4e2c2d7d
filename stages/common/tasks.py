"""data/tasks.json: what each task of a suite is, as data. `data` writes it, `quality` makes mteb tasks of it.

Beside it lies one folder a task, with one folder a subset inside where the task has several:
Retrieval       corpus.jsonl (id, title, text), queries.jsonl (id, text), qrels.tsv (query id, document id, relevance)
Classification  train.csv, test.csv (text, label)
Clustering      test.csv (sentences, labels)
BitextMining    test.csv (sentence1, sentence2), a row and its translation
STS             test.csv (sentence1, sentence2, score)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embed_foundry import manifest
from embed_foundry.errors import IntegrityError
from pydantic import TypeAdapter, ValidationError

from stages.common.config import Strict, TaskType

NAME = "tasks.json"
# mteb's name for the only subset of a task that has no others.
DEFAULT = "default"


class Task(Strict):
    """One task.

    Attributes:
        name: also its folder's name.
        type: mteb's task type.
        description: one sentence for the report.
        languages: of the texts, as ISO 639-3 and script ("eng-Latn"); by subset where the task has several.
        main_score: mteb's name of the score that counts.
        license: of the texts, as mteb writes it.
        reference: address of the source.
        package: distribution that the texts come from.
        version: of the package.
        settings: attributes of mteb's task class that differ from its defaults.
    """

    name: str
    type: TaskType
    description: str
    languages: list[str] | dict[str, list[str]]
    main_score: str
    license: str
    reference: str
    package: str
    version: str
    settings: dict[str, Any] = {}

    @property
    def subsets(self) -> list[str]:
        """Names of the subsets, sorted."""
        return sorted(self.languages) if isinstance(self.languages, dict) else [DEFAULT]

    def folder(self, data: Path, subset: str) -> Path:
        """Return where a subset's files lie."""
        return data / self.name / subset if isinstance(self.languages, dict) else data / self.name


def write(data: Path, tasks: Sequence[Task]) -> None:
    """Write tasks.json, in the order of names."""
    records = [task.model_dump(mode="json") for task in sorted(tasks, key=lambda task: task.name)]
    (data / NAME).write_bytes(manifest.canonical(records))


def read(data: Path) -> list[Task]:
    """Return the tasks of a data folder in the order of their names.

    Raises:
        IntegrityError: tasks.json is missing or not what this version writes.
    """
    try:
        return TypeAdapter(list[Task]).validate_json((data / NAME).read_bytes())
    except (OSError, ValidationError) as error:
        raise IntegrityError(f"{data / NAME}: not readable as tasks ({error}). Next: dvc repro --force data.") from None
