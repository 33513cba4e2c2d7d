"""data: the suite's tasks as files, in the layout that airgapped suites use.

In: text that installed packages carry (botocore, Django, gensim). Out: data/tasks.json and one folder a task.
Fails: 2 a package lacks the text. Target: the same bytes wherever the locked packages are installed.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from embed_foundry import manifest

from stages.common.artifact import publish, versions
from stages.common.config import Suite


@dataclass(frozen=True)
class Record:
    """One task: what mteb needs to know of it, and where its text comes from."""

    name: str
    type: str
    description: str
    main_score: str
    languages: dict[str, list[str]]
    license: str
    reference: str
    package: str
    version: str = ""


def run(suite: Suite, out: Path) -> list[Record]:
    """Write every task of the suite and return the records of tasks.json."""
    from stages.data import aws, messages, similarity

    libraries = ("botocore", "django", "gensim")
    with publish(out, stage="data", parameters=suite.model_dump(mode="json"), inputs={}, libraries=libraries) as work:
        found = [*aws.write(suite, work), *messages.write(suite, work), *similarity.write(work)]
        known = versions(libraries)
        records = [Record(**asdict(record) | {"version": known[record.package]}) for record in found]
        (work / "tasks.json").write_bytes(manifest.canonical([asdict(record) for record in records]))
    return records
