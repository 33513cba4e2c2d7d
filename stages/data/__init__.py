"""data: the suite's tasks as files, whatever they come from.

In: text that installed packages carry (suite=builtin), a folder of yours (suite=airgapped), or the model hub's datasets
at the revisions that mteb pins (suite=mteb_core, mteb_full). Out: data/tasks.json and one folder a task.
Fails: 2 a package lacks the text, an unknown task, or your files are not what a task needs; 3 wrong bytes, or other
sample counts than mteb publishes; 5 the hub refuses; 75 the hub is unavailable.
Target: the same bytes wherever the locked packages are installed.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from embed_foundry import manifest

from stages.common.artifact import publish, versions
from stages.common.suites import Airgapped, Builtin, Published

if TYPE_CHECKING:
    from stages.common.hub import Connection


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


def run(suite: Builtin | Airgapped | Published, out: Path, connection: "Connection | None" = None) -> list[Record]:
    """Write every task of the suite and return the records of tasks.json.

    Args:
        suite: which tasks, and from where.
        out: the suite's folder.
        connection: how to reach the hub, for source=hub.

    Raises:
        InputError: a package or folder lacks what a task needs, or a task is unknown.
        IntegrityError: wrong bytes, or sample counts that the suite refuses.
        RemoteError: the hub refuses.
        RetryableError: the hub is unavailable.
    """
    # A folder's path is no part of the content.
    parameters = suite.model_dump(mode="json", exclude={"data"})
    libraries = ("botocore", "django", "gensim") if isinstance(suite, Builtin) else ("datasets", "mteb", "pyarrow")
    with publish(out, stage="data", parameters=parameters, inputs={}, libraries=libraries) as work:
        if isinstance(suite, Builtin):
            records = _builtin(suite, work, versions(libraries))
        else:
            from stages.common.hub import Connection
            from stages.data import stock

            records = stock.write(suite, work, connection or Connection())
        (work / "tasks.json").write_bytes(manifest.canonical([asdict(record) for record in records]))
    return records


def _builtin(suite: Builtin, work: Path, known: dict[str, str]) -> list[Record]:
    from stages.data import aws, messages, similarity

    found = [*aws.write(suite, work), *messages.write(suite, work), *similarity.write(work)]
    return [Record(**asdict(record) | {"version": known[record.package]}) for record in found]
