"""Stock mteb tasks into data/: from a user's folder, or from the hub at the revisions that mteb pins."""

import hashlib
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from embed_foundry import IntegrityError, manifest

from stages.common.config.suite import AirgappedSuite, HubSuite
from stages.common.contract.progress import bar
from stages.common.records.tasks import TaskRecord
from stages.common.sources.hub import Connection
from stages.data import choice, counts, folder, layout, passages
from stages.data.choice import Choice
from stages.data.shapes import Retrieval, Rows

# subset, split -> their content.
Read = Callable[[str, str], Rows | Retrieval]


def write(suite: AirgappedSuite | HubSuite, work: Path, connection: Connection) -> list[TaskRecord]:
    """Write every task under `work` and return the records.

    Args:
        suite: which tasks, and from where.
        work: the folder of all tasks.
        connection: how to reach the hub.

    Raises:
        InputError: an unknown task, benchmark or subset, or a user's file that is not what its task needs.
        IntegrityError: sample counts differ from mteb's where `suite.counts` refuses that, or bytes are wrong.
        RemoteError: the hub refuses.
        RetryableError: the hub is unavailable.
    """
    chosen = choice.airgapped(suite) if isinstance(suite, AirgappedSuite) else choice.published(suite)
    records: list[TaskRecord] = []
    with bar("data: tasks", len(chosen)) as shown:
        for one in chosen:
            records.append(_task(suite, one, work / one.name, connection))
            shown.update()
    passages.write(chosen, work)
    return records


def _task(suite: AirgappedSuite | HubSuite, chosen: Choice, target: Path, connection: Connection) -> TaskRecord:
    if isinstance(suite, AirgappedSuite):
        root = Path(str(suite.data)).expanduser() / chosen.name
        place = partial(layout.place, root, several=chosen.several)
        counted = _write(chosen, lambda subset, split: folder.read(place(subset), split, chosen.shape), target)
        revision = _digest(target)
    else:
        from stages.data import hub

        with hub.loaded(chosen, connection) as content:
            counted = _write(chosen, content, target)
        revision = str(chosen.task.metadata.dataset["revision"])
    return _record(chosen, revision, _judged(chosen, counted, suite.counts))


def _digest(target: Path) -> str:
    """Return what a user's files are called by: published revisions name the hub's."""
    lines = [f"{name} {manifest.sha256(target / name)}\n" for name in manifest.files_of(target)]
    return f"local-{hashlib.sha256(''.join(lines).encode()).hexdigest()[:12]}"


def _write(chosen: Choice, read: Read, target: Path) -> counts.Counted:
    """Write all splits of all subsets; subsets of a parallel table share its rows."""
    counted: dict[str, dict[str, Counter[str]]] = {}
    for subset in ["default"] if chosen.shape.parallel else chosen.subsets:
        at = layout.place(target, subset, chosen.several)
        counted[subset] = {
            split: layout.write(read(subset, split), at, split, chosen.shape) for split in chosen.shape.splits
        }
    return dict.fromkeys(chosen.subsets, counted["default"]) if chosen.shape.parallel else counted


def _judged(chosen: Choice, counted: counts.Counted, on_difference: str) -> str:
    """Return what TaskRecord.counts says.

    Raises:
        IntegrityError: they differ, and are to be refused.
    """
    found = counts.differences(chosen.task, counted)
    if not found:
        return counts.UNPUBLISHED if found is None else counts.PUBLISHED
    text = f"task {chosen.name}: {'; '.join(found[:3])}{'; …' if len(found) > 3 else ''}"
    if on_difference == "refuse":
        raise IntegrityError(
            f"{text}. The data are not the benchmark's, so scores would not compare. Get them again; "
            "to measure them all the same, set suite.counts=warn."
        )
    print(f"data: warning: {text}. Its scores do not compare with published ones.", file=sys.stderr)  # noqa: T201
    return counts.DIFFER


def _record(chosen: Choice, revision: str, judged: str) -> TaskRecord:
    import mteb

    metadata: Any = chosen.task.metadata
    languages = metadata.hf_subsets_to_langscripts
    return TaskRecord(
        name=chosen.name,
        type=metadata.type,
        description=metadata.description,
        main_score=metadata.main_score,
        languages={subset: list(languages[subset]) for subset in chosen.subsets},
        license=str(metadata.license or "not specified"),
        reference=str(metadata.reference or ""),
        package="mteb",
        version=mteb.__version__,
        splits=list(chosen.task.eval_splits),
        dataset=str(metadata.dataset["path"]),
        revision=revision,
        counts=judged,
    )
