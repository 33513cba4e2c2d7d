"""The data stage: a suite's configuration in, its tasks as files out."""

from pathlib import Path
from typing import TYPE_CHECKING

from stages.common.config.suite import AirgappedSuite, BuiltinSuite, HubSuite
from stages.common.contract.output import library_versions, stage_output
from stages.common.records.tasks import TaskRecord, Tasks

if TYPE_CHECKING:
    from stages.common.sources.hub import Connection


def run(
    suite: BuiltinSuite | AirgappedSuite | HubSuite, out: Path, connection: "Connection | None" = None
) -> list[TaskRecord]:
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
    libraries = ("botocore", "django", "gensim") if isinstance(suite, BuiltinSuite) else ("datasets", "mteb", "pyarrow")
    with stage_output(out, stage="data", parameters=parameters, inputs={}, libraries=libraries) as work:
        if isinstance(suite, BuiltinSuite):
            records = _builtin(suite, work, library_versions(libraries))
        else:
            from stages.common.sources.hub import Connection
            from stages.data import stock

            records = stock.write(suite, work, connection or Connection())
        (work / Tasks.FILE).write_bytes(Tasks(records).dump())
    return records


def _builtin(suite: BuiltinSuite, work: Path, known: dict[str, str]) -> list[TaskRecord]:
    from stages.data import aws, messages, similarity

    found = [*aws.write(suite, work), *messages.write(suite, work), *similarity.write(work)]
    return [record.model_copy(update={"version": known[record.package]}) for record in found]
