"""A stock task's data from the hub: its dataset repository at the revision that mteb pins, read by mteb's own loader.

`datasets` would, when the hub fails, quietly take another revision from its cache; so the files of exactly that commit
come first, each checked by the digest that the hub declares, and mteb loads them as a folder.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from embed_foundry import IntegrityError, RetryableError, manifest
from embed_foundry.errors import FoundryError, InputError, RemoteError
from huggingface_hub import HfApi, constants, errors, get_token, hf_hub_download, snapshot_download

from stages.common.sources.hub import Connection
from stages.common.sources.hub.patience import Unavailable, patient_sessions, say
from stages.common.sources.hub.refusal import status
from stages.data.choice import Choice
from stages.data.shapes import Retrieval, Rows


@contextmanager
def loaded(chosen: Choice, connection: Connection) -> Iterator[Callable[[str, str], Rows | Retrieval]]:
    """Yield a function (subset, split) -> content of a task, downloaded if need be.

    Args:
        chosen: the task.
        connection: how to reach the hub.

    Raises:
        RemoteError: the dataset is gated, forbidden, or not there at this revision.
        RetryableError: the hub stays unavailable after bounded retries.
        InputError: offline, and the dataset is not in the cache.
        IntegrityError: wrong bytes, or mteb cannot read them.
    """
    import datasets

    task, pinned = chosen.task, dict(chosen.task.metadata.dataset)
    local = _Dataset(pinned["path"], pinned["revision"], chosen.name, connection).folder()
    task.metadata = task.metadata.model_copy(update={"dataset": {**pinned, "path": str(local)}})
    before = datasets.config.HF_DATASETS_CACHE
    try:
        # Arrow copies last as long as the task: what is kept is the hub's cache, and data/.
        with tempfile.TemporaryDirectory() as scratch:
            datasets.config.HF_DATASETS_CACHE = Path(scratch)
            datasets.disable_progress_bars()
            _load(task, f"{pinned['path']}@{pinned['revision'][:12]}")
            yield lambda subset, split: _content(chosen, subset, split)
            task.unload_data()
    finally:
        datasets.config.HF_DATASETS_CACHE = before
        task.metadata = task.metadata.model_copy(update={"dataset": pinned})


def _load(task: Any, where: str) -> None:  # noqa: ANN401 - mteb has no types
    try:
        task.load_data()
        if hasattr(task, "convert_v1_dataset_format_to_v2"):
            task.convert_v1_dataset_format_to_v2(None)
    except OSError as error:
        if error.errno == 28:
            raise  # a full disk, not the data
        raise IntegrityError(_unreadable(task, where, error)) from None
    except Exception as error:  # each loader fails in its own way
        raise IntegrityError(_unreadable(task, where, error)) from None


def _unreadable(task: Any, where: str, error: Exception) -> str:  # noqa: ANN401
    import mteb

    return (
        f"task {task.metadata.name}: mteb {mteb.__version__} cannot load {where} "
        f"({type(error).__name__}: {str(error)[:200]}). Leave it out of suite.tasks, or take another mteb."
    )


def _content(chosen: Choice, subset: str, split: str) -> Rows | Retrieval:
    data, shape = chosen.task.dataset, chosen.shape
    if shape.retrieval:
        found = data[subset][split]
        ranked = found.get("top_ranked") if shape.ranked else None
        changed = _changed(chosen.task) if shape.changed else None
        return Retrieval(_texts(found["corpus"]), _texts(found["queries"]), found["relevant_docs"], ranked, changed)
    splits = data if shape.parallel or (subset == "default" and subset not in data) else data.get(subset, {})
    if split not in splits:
        raise IntegrityError(
            f"task {chosen.name}: {subset} has no split {split}, there is {', '.join(splits) or 'none'}; mteb's task "
            "needs it. Leave it out of suite.tasks, or take another mteb."
        )
    rows = splits[split]
    if missing := [column for column in shape.columns if column not in rows.column_names]:
        raise IntegrityError(
            f"task {chosen.name}: {split} of {subset} has no column {', '.join(missing)}; mteb's task needs it. "
            "Leave it out of suite.tasks, or take another mteb."
        )
    rows = rows.select_columns(list(shape.columns))
    # Old pair classification: one row of lists. mteb reads both.
    old = chosen.task.metadata.type == "PairClassification" and len(rows) == 1
    return _apart(rows[0]) if old and isinstance(next(iter(rows[0].values())), list) else rows


def _texts(rows: Any) -> Rows:  # noqa: ANN401
    kept = [name for name in ("id", "title", "text", "instruction") if name in rows.column_names]
    return rows.select_columns(kept)  # type: ignore[no-any-return]


def _changed(task: Any) -> dict[str, list[str]]:  # noqa: ANN401
    """Return what mteb's task would ask the hub for while it scores."""
    from datasets import load_dataset

    rows = load_dataset(task.metadata.dataset["path"], "qrel_diff", split="qrel_diff")
    return {str(row["query-id"]): row["corpus-ids"] for row in rows}


def _apart(row: Mapping[str, list[Any]]) -> Rows:
    return (dict(zip(row, values, strict=True)) for values in zip(*row.values(), strict=True))


class _Dataset:
    """One dataset repository at one commit.

    Args:
        repo: the hub's name of it.
        revision: 40 hex digits.
        task: whose data it is, for messages.
        connection: how to reach the hub.
    """

    def __init__(self, repo: str, revision: str, task: str, connection: Connection) -> None:
        self.repo, self.revision, self.task, self.connection = repo, revision, task, connection
        self.endpoint = connection.endpoint or constants.ENDPOINT
        self.cache = connection.cache or Path(constants.HF_HUB_CACHE)
        self.where = f"task {task}: dataset {repo}@{revision[:12]} at {self.endpoint}"

    def folder(self) -> Path:
        """Return the folder of the commit's files, downloaded if need be."""
        offline = constants.HF_HUB_OFFLINE if self.connection.offline is None else self.connection.offline
        if offline:
            return self._cached()
        connection = self.connection
        try:
            with patient_sessions(connection.attempts, connection.wait_s, connection.longest_wait_s):
                listed = HfApi(endpoint=connection.endpoint, token=connection.token).dataset_info(
                    self.repo, revision=self.revision, files_metadata=True, timeout=connection.timeout_s
                )
                found = [self._file(entry) for entry in listed.siblings or []]
        except Unavailable as error:
            raise self._unavailable(str(error)) from None
        except (requests.RequestException, errors.LocalEntryNotFoundError) as error:
            raise self._refusal(error) or self._unavailable(type(error).__name__) from None
        except (KeyError, TypeError, AttributeError):
            raise IntegrityError(f"{self.where}: the answer is not a hub's. Check HF_ENDPOINT and proxies.") from None
        if not found:
            raise RemoteError(f"{self.where}: holds no file. Leave {self.task} out of suite.tasks.")
        return next(root for path in found for root in path.parents if root.name == self.revision)

    def _cached(self) -> Path:
        try:
            return Path(
                snapshot_download(
                    self.repo, repo_type="dataset", revision=self.revision, cache_dir=self.cache, local_files_only=True
                )
            )
        except errors.LocalEntryNotFoundError:
            raise InputError(
                f"{self.where}: HF_HUB_OFFLINE is set and the cache lacks it. Run once without HF_HUB_OFFLINE, fill "
                "the cache (HF_HOME) on a machine that reaches the hub, or use suite=airgapped."
            ) from None

    def _file(self, entry: Any) -> Path:  # noqa: ANN401 - a RepoSibling
        """Bring one file into the cache and check its bytes by what the hub declares of the commit."""
        for again in (False, True):
            path = Path(
                hf_hub_download(
                    self.repo,
                    entry.rfilename,
                    repo_type="dataset",
                    revision=self.revision,
                    endpoint=self.connection.endpoint,
                    cache_dir=self.cache,
                    token=self.connection.token,
                    etag_timeout=self.connection.timeout_s,
                    force_download=again,
                )
            )
            declared, actual = (entry.lfs.sha256, manifest.sha256(path)) if entry.lfs else (entry.blob_id, _git(path))
            if declared == actual:
                return path
            say(f"{entry.rfilename} of {self.repo}: wrong bytes{'' if again else ', fetched again'}")
        path.resolve().unlink(missing_ok=True)
        raise IntegrityError(
            f"{self.where}: {entry.rfilename} has digest {actual}, the hub declares {declared}. It is removed from the "
            "cache; nothing was published. Run again: if it stays, the hub or a proxy is wrong."
        )

    def _refusal(self, error: Exception) -> FoundryError | None:
        """Return the error that says why the hub will never give this; None if it may later."""
        while isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
            error = error.__cause__  # "cannot find the file in the cache" hides what happened
        token = "HF_TOKEN" if self.connection.token or get_token() else "no token (HF_TOKEN is not set)"
        code, page = status(error), f"{self.endpoint}/datasets/{self.repo}"
        leave = f"Leave {self.task} out of suite.tasks"
        if isinstance(error, errors.RevisionNotFoundError):
            return RemoteError(f"{self.where}: no such commit (HTTP {code}). {leave}, or take another mteb.")
        if isinstance(error, errors.GatedRepoError) or code == 403:
            return RemoteError(
                f"{self.where}: gated or forbidden (HTTP {code}), asked with {token}. Ask for access at {page} and set "
                f"HF_TOKEN to a token of that account. Or: {leave.lower()}."
            )
        if code in {401, 404}:
            return RemoteError(
                f"{self.where}: no such dataset, or a private one (HTTP {code}), asked with {token}. "
                f"{leave}, or set HF_TOKEN to a token that may read it."
            )
        if code and 400 <= code < 500 and code not in {408, 416, 429}:
            return RemoteError(f"{self.where}: refused (HTTP {code}). Check HF_ENDPOINT.")
        return None

    def _unavailable(self, reason: str) -> RetryableError:
        return RetryableError(
            f"hub unavailable: {self.where}: {reason}. Nothing was published and finished downloads are kept; "
            "run the same command again later."
        )


def _git(path: Path) -> str:
    """Return git's name of a file's bytes."""
    body = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()
