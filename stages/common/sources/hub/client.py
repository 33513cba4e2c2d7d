"""The files of one repository at one commit, downloaded through huggingface_hub and hashed before use."""

import re
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from embed_foundry import RetryableError
from embed_foundry.errors import InputError, IntegrityError, RemoteError
from huggingface_hub import HfApi, constants, errors, get_token
from huggingface_hub.utils import SafetensorsFileMetadata

from stages.common.sources.hub import transfer
from stages.common.sources.hub.cache import RepositoryCache, find_fault, is_inside
from stages.common.sources.hub.connection import Connection
from stages.common.sources.hub.refusal import http_status, refusal_error
from stages.common.sources.hub.repository import Guidance, Repository
from stages.common.sources.hub.retries import HubUnavailable, report, retrying_client


@dataclass(frozen=True)
class HubFile:
    """A file as the hub lists it.

    Attributes:
        size: in bytes.
        digest: SHA-256 of a file in LFS, git's SHA-1 of another.
    """

    size: int
    digest: str


@dataclass(frozen=True)
class CommitInfo:
    """A commit as the hub lists it.

    Attributes:
        commit: 40 hex digits.
        files: all files of the commit, by name.
        gated: whether users must accept a licence before a download.
    """

    commit: str
    files: dict[str, HubFile]
    gated: bool


class HubClient:
    """One repository at one commit.

    Args:
        repository: what to fetch from.
        guidance: what messages about it say.
        connection: how to reach the hub.

    Attributes:
        where: how messages name the commit at this hub.
        offline: whether only the cache may be used.
        cache: what was downloaded so far.
    """

    def __init__(self, repository: Repository, guidance: Guidance, connection: Connection) -> None:
        self.repository, self.guidance, self.connection = repository, guidance, connection
        self.endpoint = connection.endpoint or constants.ENDPOINT
        self.where = f"{guidance.label} at {self.endpoint}"
        self.offline = constants.HF_HUB_OFFLINE if connection.offline is None else connection.offline
        self.cache = RepositoryCache(repository, connection.cache or Path(constants.HF_HUB_CACHE))

    def list_files(self) -> dict[str, HubFile]:
        """Ask the hub for all files of the commit.

        Raises:
            RemoteError: gated, forbidden, no such repository or commit.
            RetryableError: the hub stays unavailable after bounded retries.
            InputError: the repository's name is not valid.
            IntegrityError: the answer is not a hub's.
        """
        return self.describe().files

    def describe(self) -> CommitInfo:
        """Ask the hub for the commit that the repository's revision names, and its files.

        Raises:
            RemoteError, RetryableError, InputError, IntegrityError: as `list_files`.
        """
        with self._retrying():
            return self._describe()

    def read_weights_header(self, name: str) -> SafetensorsFileMetadata:
        """Return names, types, shapes and places of a safetensors file's tensors; only its beginning is downloaded.

        Raises:
            IntegrityError: it is no safetensors file.
            RemoteError: gated, forbidden, no such file.
            RetryableError: the hub stays unavailable after bounded retries.
        """
        connection, repository = self.connection, self.repository
        api = HfApi(endpoint=connection.endpoint, token=connection.token)
        with self._retrying():
            try:
                return api.parse_safetensors_file_metadata(
                    repository.repo_id, name, revision=repository.revision, timeout=connection.timeout_s
                )
            except (errors.SafetensorsParsingError, struct.error) as error:
                raise IntegrityError(f"{name} of {self.where}: is not a safetensors file ({error}).") from None
            except httpx2.HTTPError as error:
                raise self._refusal(error) or self._unavailable(type(error).__name__) from None

    def fetch(self, name: str, size: int, pin: str | None = None, declared: str | None = None) -> Path:
        """Return the path in the cache of one file, downloaded if need be, with its bytes checked.

        Args:
            name: the file's path in the repository.
            size: in bytes, for progress.
            pin: SHA-256 of the right bytes.
            declared: the digest that the hub lists, which counts if there is no pin.

        Raises:
            IntegrityError: wrong bytes; they are removed from the cache.
            RemoteError: gated, forbidden, no such file.
            RetryableError: the hub stays unavailable after bounded retries.
        """
        with self._retrying():
            return self._fetch(name, size, pin, declared)

    def fetch_all(self) -> None:
        """Bring all files of the commit into the cache, checked by the digests that the hub lists.

        Raises:
            RemoteError, RetryableError, InputError, IntegrityError: as `list_files` and `fetch`.
        """
        with self._retrying():
            for name, file in self._describe().files.items():
                self._fetch(name, file.size, pin=None, declared=file.digest)

    def _describe(self) -> CommitInfo:
        connection, repository = self.connection, self.repository
        api = HfApi(endpoint=connection.endpoint, token=connection.token)
        try:
            info = api.repo_info(
                repository.repo_id,
                repo_type=repository.kind,
                revision=repository.revision,
                files_metadata=True,
                timeout=connection.timeout_s,
            )
            files = {
                entry.rfilename: HubFile(entry.size or 0, entry.lfs.sha256 if entry.lfs else entry.blob_id)
                for entry in info.siblings or []
            }
            commit = re.fullmatch("[0-9a-f]{40}", info.sha or "")
            if not all(isinstance(name, str) and isinstance(file.size, int) for name, file in files.items()):
                raise TypeError
        except errors.HFValidationError as error:
            raise InputError(f"{self.where}: {error} Correct its name: model.repo, or suite.tasks.") from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise self._refusal(error) or self._unavailable(type(error).__name__) from None
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
            raise IntegrityError(f"{self.where}: the answer is not a hub's. Check HF_ENDPOINT and proxies.") from None
        if not commit:
            raise IntegrityError(f"{self.where}: the answer names no commit. Check HF_ENDPOINT and proxies.")
        if outside := [name for name in files if not is_inside(name)]:
            raise IntegrityError(f"{self.where}: lists a file outside the repository, {outside[0]!r}. Do not use it.")
        return CommitInfo(commit[0], files, bool(getattr(info, "gated", False)))

    def _fetch(self, name: str, size: int, pin: str | None, declared: str | None) -> Path:
        # Wrong bytes are fetched once more: they may have rotted in the cache or on the way. A new download that only
        # a pin contradicts is not repeated: more likely the pin is wrong.
        for _ in range(2 if self.cache.find(name) or not pin else 1):
            path = self.cache.find(name) or self._download(name, size)
            if not (fault := find_fault(path, pin, declared)):
                return path
            self.cache.remove(path)
            report(f"{name}: wrong bytes, removed from the cache")
            if self.offline:
                break
        suspects = "the hub, a proxy or the pin in model.files" if pin else "the hub or a proxy"
        raise IntegrityError(
            f"{name} of {self.where} {fault}. It is removed from the cache; nothing was written. "
            f"Run again; if it happens again, {suspects} is wrong. Change a pin only if you know why."
        )

    def _download(self, name: str, size: int) -> Path:
        """Bring one file into the cache; a download that broke off continues where it stopped."""
        connection = self.connection
        report(f"{name} ({size / 1e6:.1f} MB)")
        for tries in range(1, connection.attempts + 1):
            try:
                return self._try_download(name)
            except transfer.WrongSize:
                reason = "wrong size"
            except httpx2.HTTPError as error:
                if refusal := self._refusal(error):
                    raise refusal from None
                reason = f"HTTP {http_status(error)}" if http_status(error) else "the connection broke off"
            if tries < connection.attempts:
                wait = connection.wait_before(tries)
                report(f"{name}: {reason}; next try in {wait:g} s")
                time.sleep(wait)
        raise self._unavailable(f"{name}: {reason}, {connection.attempts} times")

    def _try_download(self, name: str) -> Path:
        file = transfer.request_metadata(self.repository, name, self.connection, self.where)
        with self.cache.lock(file.etag):
            if self.cache.holds(file.etag):  # under another name, or by another process
                return self.cache.link(name, file.etag)
            partial = self.cache.partial(file.etag)
            try:
                transfer.receive(file, name, partial, self.connection.token)
            except (transfer.WrongSize, httpx2.HTTPError) as error:
                if isinstance(error, transfer.WrongSize) or http_status(error) == 416:
                    partial.unlink()  # too long, or continued wrongly
                raise
            self.cache.complete(file.etag)
            return self.cache.link(name, file.etag)

    @contextmanager
    def _retrying(self) -> Iterator[None]:
        """Retry huggingface_hub's requests while the block runs; end as unavailable when all tries have failed."""
        try:
            with retrying_client(self.connection):
                yield
        except HubUnavailable as error:
            raise self._unavailable(str(error)) from None

    def _refusal(self, error: Exception) -> RemoteError | None:
        token = "HF_TOKEN" if self.connection.token or get_token() else "no token (HF_TOKEN is not set)"
        return refusal_error(error, self.repository, self.guidance, self.endpoint, token)

    def _unavailable(self, reason: str) -> RetryableError:
        return RetryableError(
            f"hub unavailable: {self.where}: {reason}. Nothing was written and downloads are kept; "
            "run the same command again later."
        )
