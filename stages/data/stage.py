"""The data stage: a suite's configuration in, its tasks as files out."""

from pathlib import Path
from typing import TYPE_CHECKING

from stages.common.config.suite import AirgappedSuite, BuiltinSuite, HubSuite
from stages.common.contract.output import folder_size, library_versions, stage_output
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
    # The path of a user's folder is not part of the content.
    parameters = suite.model_dump(mode="json", exclude={"data"})
    libraries = ("botocore", "django", "gensim") if isinstance(suite, BuiltinSuite) else ("datasets", "mteb", "pyarrow")
    needs_bytes = folder_size(Path(suite.data)) if isinstance(suite, AirgappedSuite) and suite.data else 0
    with stage_output(
        out, stage="data", parameters=parameters, inputs={}, libraries=libraries, needs_bytes=needs_bytes
    ) as work:
        if isinstance(suite, BuiltinSuite):
            records = _write_builtin(suite, work, library_versions(libraries))
        else:
            from stages.common.sources.hub import Connection
            from stages.data import stock_tasks

            records = stock_tasks.write_tasks(suite, work, connection or Connection())
        (work / Tasks.FILE).write_bytes(Tasks(records).dump())
    return records


def _write_builtin(suite: BuiltinSuite, work: Path, versions: dict[str, str]) -> list[TaskRecord]:
    from stages.data import aws_tasks, message_tasks, similarity_tasks

    records = [
        *aws_tasks.write_tasks(suite, work),
        *message_tasks.write_tasks(suite, work),
        *similarity_tasks.write_tasks(work),
    ]
    return [record.model_copy(update={"version": versions[record.package]}) for record in records]
