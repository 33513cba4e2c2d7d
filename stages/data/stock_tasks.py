"""Stock mteb tasks into data/: from a user's folder, or from the hub at the revisions that mteb pins."""

import hashlib
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from embed_foundry import IntegrityError, manifest
from embed_foundry.progress import bar

from stages.common.config.suite import AirgappedSuite, HubSuite
from stages.common.records.tasks import TaskRecord
from stages.common.sources.hub import Connection
from stages.common.sources.suite_files import SplitContent, TaskFiles, write_passages
from stages.data import sample_counts, selection, user_folder
from stages.data.sample_counts import TaskCounts
from stages.data.selection import SelectedTask

# Subset and split -> their content.
SplitReader = Callable[[str, str], SplitContent]


def write_tasks(suite: AirgappedSuite | HubSuite, work: Path, connection: Connection) -> list[TaskRecord]:
    """Write every task under `work` and return the records.

    Args:
        suite: which tasks, and from where.
        work: the folder of all tasks.
        connection: how to reach the hub.

    Raises:
        InputError: an unknown task, benchmark or subset, or a user's file that is not what its task needs.
        IntegrityError: wrong bytes, or sample counts that differ from mteb's and `suite.counts` refuses that.
        RemoteError: the hub refuses.
        RetryableError: the hub is unavailable.
    """
    if isinstance(suite, AirgappedSuite):
        selected = selection.select_from_folder(suite)
    else:
        selected = selection.select_published(suite)
    records: list[TaskRecord] = []
    with bar("data: tasks", len(selected)) as progress:
        for task in selected:
            records.append(_write_task(suite, task, work / task.name, connection))
            progress.update()
    write_passages(work, {task.name: task.layout for task in selected})
    return records


def _write_task(
    suite: AirgappedSuite | HubSuite, selected: SelectedTask, folder: Path, connection: Connection
) -> TaskRecord:
    files = TaskFiles(folder, selected.layout)
    if isinstance(suite, AirgappedSuite):
        source = TaskFiles(Path(str(suite.data)).expanduser() / selected.name, selected.layout)
        counts = _write_splits(selected, partial(user_folder.read_split, source), files)
        revision = _local_revision(folder)
    else:
        from stages.data import hub_tasks

        with hub_tasks.open_dataset(selected, connection) as read_split:
            counts = _write_splits(selected, read_split, files)
        revision = str(selected.task.metadata.dataset["revision"])
    return _build_record(selected, revision, _compare_counts(selected, counts, suite.counts))


def _local_revision(folder: Path) -> str:
    """Return the revision of a user's files: a digest, marked so that nobody takes it for a commit of the hub."""
    lines = [f"{name} {manifest.sha256(folder / name)}\n" for name in manifest.files_of(folder)]
    return f"local-{hashlib.sha256(''.join(lines).encode()).hexdigest()[:12]}"


def _write_splits(selected: SelectedTask, read_split: SplitReader, files: TaskFiles) -> TaskCounts:
    """Write all splits of all subsets; the subsets of a parallel table share its rows."""
    layout = selected.layout
    counts = {
        subset: {split: files.write(subset, split, read_split(subset, split)) for split in layout.splits}
        for subset in (["default"] if layout.parallel else selected.subsets)
    }
    return dict.fromkeys(selected.subsets, counts["default"]) if layout.parallel else counts


def _compare_counts(selected: SelectedTask, counts: TaskCounts, on_difference: str) -> str:
    """Return the value of TaskRecord.counts; warn if counts differ.

    Raises:
        IntegrityError: they differ, and `on_difference` is "refuse".
    """
    differences = sample_counts.list_differences(selected.task, counts)
    if not differences:
        return sample_counts.UNPUBLISHED if differences is None else sample_counts.PUBLISHED
    summary = f"task {selected.name}: {'; '.join(differences[:3])}{'; …' if len(differences) > 3 else ''}"
    if on_difference == "refuse":
        raise IntegrityError(
            f"{summary}. The data are not the benchmark's, so scores would not compare. Get the data again, or "
            "measure them as they are with suite.counts=warn."
        )
    print(  # noqa: T201
        f"data: warning: {summary}. Its scores do not compare with published ones.", file=sys.stderr
    )
    return sample_counts.DIFFER


def _build_record(selected: SelectedTask, revision: str, counts: str) -> TaskRecord:
    import mteb

    metadata = selected.task.metadata
    languages = metadata.hf_subsets_to_langscripts
    return TaskRecord(
        name=selected.name,
        type=metadata.type,
        description=metadata.description,
        main_score=metadata.main_score,
        languages={subset: list(languages[subset]) for subset in selected.subsets},
        license=str(metadata.license or "not specified"),
        reference=str(metadata.reference or ""),
        package="mteb",
        version=mteb.__version__,
        splits=list(selected.task.eval_splits),
        dataset=str(metadata.dataset["path"]),
        revision=revision,
        counts=counts,
    )
