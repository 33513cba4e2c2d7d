"""The files of one repository at one commit, downloaded through huggingface_hub and hashed before use."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from embed_foundry import RetryableError
from embed_foundry.errors import FoundryError, InputError, IntegrityError
from huggingface_hub import HfApi, constants, errors, get_token, hf_hub_download

from stages.common.sources.hub.cache import RepositoryCache, find_fault
from stages.common.sources.hub.connection import Connection
from stages.common.sources.hub.refusal import http_status, refusal_error
from stages.common.sources.hub.repository import Guidance, Repository
from stages.common.sources.hub.retries import HubUnavailable, report, retrying_sessions


@dataclass(frozen=True)
class HubFile:
    """A file as the hub lists it.

    Attributes:
        size: in bytes.
        digest: SHA-256 of a file in LFS, git's SHA-1 of another.
    """

    size: int
    digest: str


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
        with self._sessions():
            return self._list_files()

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
        with self._sessions():
            return self._fetch(name, size, pin, declared)

    def fetch_all(self) -> None:
        """Bring all files of the commit into the cache, checked by the digests that the hub lists.

        Raises:
            RemoteError, RetryableError, InputError, IntegrityError: as `list_files` and `fetch`.
        """
        with self._sessions():
            for name, file in self._list_files().items():
                self._fetch(name, file.size, pin=None, declared=file.digest)

    def _list_files(self) -> dict[str, HubFile]:
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
            return {
                entry.rfilename: HubFile(entry.size or 0, entry.lfs.sha256 if entry.lfs else entry.blob_id)
                for entry in info.siblings or []
            }
        except errors.HFValidationError as error:
            raise InputError(f"{self.where}: {error} Correct its name: model.repo, or suite.tasks.") from None
        except requests.RequestException as error:
            raise self._refusal(error) or self._unavailable(type(error).__name__) from None
        except (KeyError, TypeError, AttributeError):
            raise IntegrityError(f"{self.where}: the answer is not a hub's. Check HF_ENDPOINT and proxies.") from None

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
        reason = ""
        for attempt in range(connection.attempts):
            if reason:
                wait = min(connection.wait_s * 2 ** (attempt - 1), connection.longest_wait_s)
                report(f"{name}: {reason}; next try in {wait:g} s")
                time.sleep(wait)
            try:
                return self._try_download(name)
            except requests.RequestException as error:
                if refusal := self._refusal(error):
                    raise refusal from None
                reason = f"HTTP {http_status(error)}" if http_status(error) else "the connection broke off"
                unusable = http_status(error) == 416
            except OSError as error:
                if error.errno:
                    raise  # the disk, not the hub
                if refusal := self._refusal(error):
                    raise refusal from None
                reason, unusable = "wrong size", True
            if unusable:
                self.cache.remove_partials()
        raise self._unavailable(f"{name}: {reason}, {connection.attempts} times")

    def _try_download(self, name: str) -> Path:
        path = hf_hub_download(
            self.repository.repo_id,
            name,
            repo_type=self.repository.kind,
            revision=self.repository.revision,
            endpoint=self.connection.endpoint,
            cache_dir=self.cache.folder,
            token=self.connection.token,
            etag_timeout=self.connection.timeout_s,
        )
        if self.repository.revision not in Path(path).parts:
            raise IntegrityError(f"{name} of {self.where} came from another commit. Check HF_ENDPOINT.")
        return Path(path)

    @contextmanager
    def _sessions(self) -> Iterator[None]:
        """Let huggingface_hub retry below the block; end as unavailable when it gives up."""
        connection = self.connection
        try:
            with retrying_sessions(connection.attempts, connection.wait_s, connection.longest_wait_s):
                yield
        except HubUnavailable as error:
            raise self._unavailable(str(error)) from None

    def _refusal(self, error: Exception) -> FoundryError | None:
        token = "HF_TOKEN" if self.connection.token or get_token() else "no token (HF_TOKEN is not set)"
        return refusal_error(error, self.repository, self.guidance, self.endpoint, token)

    def _unavailable(self, reason: str) -> RetryableError:
        return RetryableError(
            f"hub unavailable: {self.where}: {reason}. Nothing was written and downloads are kept; "
            "run the same command again later."
        )
