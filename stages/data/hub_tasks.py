"""A stock task's data from the hub: its dataset repository at the revision that mteb pins, read by mteb's own loader.

If the hub fails, `datasets` silently takes another revision from its cache. So the files of exactly that commit are
fetched and checked first, and mteb loads them as a folder.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embed_foundry import IntegrityError
from embed_foundry.errors import InputError, RemoteError
from embed_foundry.system_errors import retryable_error

from stages.common.sources.hub import Connection, HubClient, Reason, Refusal, Repository
from stages.common.sources.suite_files import MtebTask, RetrievalSplit, Rows, SplitContent
from stages.data.selection import SelectedTask

# A table of the library `datasets`, which has no types.
Table = Any


@dataclass(frozen=True)
class DatasetGuidance:
    """What messages about a task's dataset repository say."""

    task: str
    repository: Repository

    @property
    def label(self) -> str:
        """How messages name the repository."""
        return f"task {self.task}: dataset {self.repository}"

    @property
    def gated_codes(self) -> frozenset[int]:
        """HTTP statuses that mean a gated repository even if the answer does not say so."""
        return frozenset({403})

    def explain(self, refusal: Refusal) -> str:
        """Return the fact and the next step."""
        code, token, leave_out = refusal.code, refusal.token, f"Leave {self.task} out of suite.tasks"
        missing = (
            f"no such dataset, or a private one (HTTP {code}), asked with {token}. {leave_out}, or set HF_TOKEN to a "
            "token that may read it."
        )
        return {
            Reason.NO_COMMIT: f"no such commit (HTTP {code}). {leave_out}, or install another mteb.",
            Reason.NO_FILE: f"no such file at this commit (HTTP {code}). {leave_out}, or install another mteb.",
            Reason.GATED: f"gated or forbidden (HTTP {code}), asked with {token}. Ask for access at {refusal.page} and "
            f"set HF_TOKEN to a token of that account. Otherwise l{leave_out[1:]}.",
            Reason.DENIED: missing,
            Reason.NO_REPOSITORY: missing,
            Reason.OTHER: f"refused (HTTP {code}). Check HF_ENDPOINT.",
        }[refusal.reason]


@contextmanager
def open_dataset(selected: SelectedTask, connection: Connection) -> Iterator[Callable[[str, str], SplitContent]]:
    """Yield a function (subset, split) -> content of a task, whose files are downloaded if need be.

    Raises:
        RemoteError: the dataset is gated, forbidden, or not there at this revision.
        RetryableError: the hub stays unavailable after bounded retries.
        InputError: offline, and the dataset is not in the cache.
        IntegrityError: wrong bytes, or mteb cannot read them.
    """
    import datasets

    task, pinned = selected.task, dict(selected.task.metadata.dataset)
    repository = Repository("dataset", pinned["path"], pinned["revision"])
    folder = _fetch_files(selected.name, repository, connection)
    task.metadata = task.metadata.model_copy(update={"dataset": {**pinned, "path": str(folder)}})
    cache = datasets.config.HF_DATASETS_CACHE
    try:
        # Arrow copies last as long as the task; the hub's cache and data/ are what stays.
        with tempfile.TemporaryDirectory() as scratch:
            datasets.config.HF_DATASETS_CACHE = Path(scratch)
            datasets.disable_progress_bars()
            _load(task, repository)
            yield lambda subset, split: _read_split(selected, subset, split)
            task.unload_data()
    finally:
        datasets.config.HF_DATASETS_CACHE = cache
        task.metadata = task.metadata.model_copy(update={"dataset": pinned})


def _fetch_files(task: str, repository: Repository, connection: Connection) -> Path:
    """Return the folder of the commit's files, downloaded if need be."""
    client = HubClient(repository, DatasetGuidance(task, repository), connection)
    if not client.offline:
        client.fetch_all()
    if folder := client.cache.find_snapshot():
        return folder
    if client.offline:
        raise InputError(
            f"{client.where}: HF_HUB_OFFLINE is set and the cache lacks it. Run once without HF_HUB_OFFLINE, fill "
            "the cache (HF_HOME) on a machine that reaches the hub, or use suite=airgapped."
        )
    raise RemoteError(f"{client.where}: holds no file. Leave {task} out of suite.tasks.")


def _load(task: MtebTask, repository: Repository) -> None:
    import mteb

    try:
        task.load_data()
        if hasattr(task, "convert_v1_dataset_format_to_v2"):
            task.convert_v1_dataset_format_to_v2(None)
    except Exception as error:  # each loader fails in its own way
        raise retryable_error(error) or IntegrityError(
            f"task {task.metadata.name}: mteb {mteb.__version__} cannot load {repository} "
            f"({type(error).__name__}: {str(error)[:200]}). Leave it out of suite.tasks, or install another mteb."
        ) from None


def _read_split(selected: SelectedTask, subset: str, split: str) -> SplitContent:
    data, layout = selected.task.dataset, selected.layout
    if layout.retrieval:
        content = data[subset][split]
        return RetrievalSplit(
            corpus=_select_text_columns(content["corpus"]),
            queries=_select_text_columns(content["queries"]),
            relevant=content["relevant_docs"],
            ranked=content.get("top_ranked") if layout.ranked else None,
            changed=_load_changed_relevance(selected.task) if layout.changed else None,
        )
    splits = data if layout.parallel or (subset == "default" and subset not in data) else data.get(subset, {})
    advice = "mteb's task needs it. Leave it out of suite.tasks, or install another mteb."
    if split not in splits:
        raise IntegrityError(
            f"task {selected.name}: {subset} has no split {split}, there is {', '.join(splits) or 'none'}; {advice}"
        )
    table = splits[split]
    if missing := [column for column in layout.columns if column not in table.column_names]:
        raise IntegrityError(f"task {selected.name}: {split} of {subset} has no column {', '.join(missing)}; {advice}")
    table = table.select_columns(list(layout.columns))
    # Old pair classification has one row of lists, which mteb reads like rows.
    if selected.task.metadata.type == "PairClassification" and len(table) == 1:
        row = table[0]
        if isinstance(next(iter(row.values())), list):
            return _split_row(row)
    return table  # type: ignore[no-any-return]


def _select_text_columns(table: Table) -> Rows:
    columns = [name for name in ("id", "title", "text", "instruction") if name in table.column_names]
    return table.select_columns(columns)  # type: ignore[no-any-return]


def _load_changed_relevance(task: MtebTask) -> dict[str, list[str]]:
    """Return the documents with changed relevance by query; mteb's task would ask the hub for them while it scores."""
    from datasets import load_dataset

    rows = load_dataset(task.metadata.dataset["path"], "qrel_diff", split="qrel_diff")
    return {str(row["query-id"]): row["corpus-ids"] for row in rows}


def _split_row(row: Mapping[str, list[object]]) -> Rows:
    """Return one row of lists as a row per item."""
    return (dict(zip(row, values, strict=True)) for values in zip(*row.values(), strict=True))
