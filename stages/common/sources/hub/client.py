"""The files of one model at one commit, downloaded through huggingface_hub and hashed before use."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests
from embed_foundry import RetryableError
from embed_foundry.errors import FoundryError, InputError, IntegrityError, RemoteError
from huggingface_hub import HfApi, constants, errors, get_token, hf_hub_download

from stages.common.config import Model
from stages.common.sources.hub.cache import Cache
from stages.common.sources.hub.patience import Unavailable, patient_sessions, say
from stages.common.sources.hub.refusal import place, refusal, status


@dataclass(frozen=True)
class Connection:
    """How to reach the hub. None takes huggingface_hub's own: HF_ENDPOINT, HF_HOME, HF_TOKEN, HF_HUB_OFFLINE.

    Attributes:
        endpoint: the hub's address.
        cache: folder of huggingface_hub's cache.
        token: access token; never printed.
        offline: use the cache only.
        attempts: tries of one request or one file before giving up.
        wait_s: seconds before the second retry, doubled at each further one.
        longest_wait_s: longest single wait; a hub that asks for more is given up at once.
        timeout_s: seconds without an answer's head.
    """

    endpoint: str | None = None
    cache: Path | None = None
    token: str | None = field(default=None, repr=False)
    offline: bool | None = None
    attempts: int = 6
    wait_s: float = 1.0
    longest_wait_s: float = 60.0
    timeout_s: float = 10.0


class Hub:
    """The files of one model at one commit.

    Args:
        model: what to fetch, with its pins.
        connection: how to reach the hub.

    Raises:
        RemoteError: gated, forbidden, no such repository, commit or file.
        RetryableError: the hub stays unavailable after bounded retries.
        InputError: offline, and not every file is in the cache.
        IntegrityError: the answers are not a model hub's.
    """

    def __init__(self, model: Model, connection: Connection) -> None:
        self.model, self.connection = model, connection
        self.endpoint = connection.endpoint or constants.ENDPOINT
        self.where = place(model, self.endpoint)
        self.offline = constants.HF_HUB_OFFLINE if connection.offline is None else connection.offline
        self.cache = Cache(model, connection.cache or Path(constants.HF_HUB_CACHE))
        cached = {name: self.cache.find(name) for name in model.files}
        self.missing = [name for name, path in cached.items() if path is None]
        if self.missing and self.offline:
            raise InputError(
                f"{self.where}: HF_HUB_OFFLINE is set and the cache lacks {', '.join(self.missing)}. "
                "Run once without HF_HUB_OFFLINE, or fill the cache (HF_HOME) on a machine that reaches the hub."
            )
        self.sizes = self._listed() if self.missing else {n: p.stat().st_size for n, p in cached.items() if p}

    @property
    def needs_bytes(self) -> int:
        """Free disk to ask for: the output, and what is still to come into the cache."""
        return sum(self.sizes.values()) + sum(self.sizes[name] for name in self.missing)

    def fetch(self, name: str) -> Path:
        """Return the path in the cache of one file, downloaded if need be, with its bytes checked.

        Raises:
            IntegrityError: the bytes are not the pinned ones, or without a pin not those the hub declares; they are
                removed from the cache.
            RemoteError, RetryableError: as the class.
        """
        path = self.cache.find(name)
        fault = self.cache.fault(name, path) if path else None
        if path is None or (fault and not self.offline):
            if path:
                # Rotten, or kept from a time when the hub sent wrong bytes: once more from the hub.
                say(f"{name}: wrong bytes in the cache, removed")
                self.cache.remove(path)
            path = self._download(name)
            fault = self.cache.fault(name, path)
        if fault:
            self.cache.remove(path)
            raise IntegrityError(
                f"{name} of {self.where} {fault}. It is removed from the cache; nothing was published. "
                "Run again: if it stays, the hub, a proxy or model.files is wrong; do not change a pin without knowing."
            )
        return path

    def _listed(self) -> dict[str, int]:
        """Ask the hub for the size of every file at the commit, in bytes."""
        connection, model = self.connection, self.model
        api = HfApi(endpoint=connection.endpoint, token=connection.token)
        try:
            with self._patient():
                info = api.model_info(
                    model.repo, revision=model.revision, files_metadata=True, timeout=connection.timeout_s
                )
        except errors.HFValidationError as error:
            raise InputError(f"model.repo: {error} Correct it.") from None
        except requests.RequestException as error:
            raise self._refusal(error) or self._unavailable(type(error).__name__) from None
        except (KeyError, TypeError, AttributeError):
            raise IntegrityError(
                f"{self.where}: the answer is not a model hub's. Check HF_ENDPOINT and proxies."
            ) from None
        listed = {entry.rfilename: entry for entry in info.siblings or []}
        if absent := sorted(set(model.files) - set(listed)):
            raise RemoteError(
                f"{self.where}: has no {', '.join(absent)}, which model.files lists. "
                "Correct model.files, or model.revision."
            )
        return {name: listed[name].size or 0 for name in model.files}

    def _download(self, name: str) -> Path:
        """Bring one file into the cache; a download that broke off goes on where it stopped."""
        connection = self.connection
        say(f"{name} ({self.sizes[name] / 1e6:.1f} MB)")
        reason = ""
        for attempt in range(connection.attempts):
            if reason:
                wait = min(connection.wait_s * 2 ** (attempt - 1), connection.longest_wait_s)
                say(f"{name}: {reason}; again in {wait:g} s")
                time.sleep(wait)
            try:
                return self._attempt(name)
            except requests.RequestException as error:
                if refused := self._refusal(error):
                    raise refused from None
                reason = f"HTTP {status(error)}" if status(error) else "the connection broke off"
                unusable = status(error) == 416
            except OSError as error:
                if error.errno:
                    raise  # the disk, not the hub
                if refused := self._refusal(error):
                    raise refused from None
                reason, unusable = "wrong size", True
            if unusable:
                self.cache.drop_partials()
        raise self._unavailable(f"{name}: {reason}, {connection.attempts} times")

    def _attempt(self, name: str) -> Path:
        with self._patient():
            path = hf_hub_download(
                self.model.repo,
                name,
                revision=self.model.revision,
                endpoint=self.connection.endpoint,
                cache_dir=self.cache.folder,
                token=self.connection.token,
                etag_timeout=self.connection.timeout_s,
            )
        if self.model.revision not in Path(path).parts:
            raise IntegrityError(f"{name} of {self.where} came from another commit. Check HF_ENDPOINT.")
        return Path(path)

    @contextmanager
    def _patient(self) -> Iterator[None]:
        try:
            with patient_sessions(self.connection.attempts, self.connection.wait_s, self.connection.longest_wait_s):
                yield
        except Unavailable as error:
            raise self._unavailable(str(error)) from None

    def _refusal(self, error: Exception) -> FoundryError | None:
        token = "HF_TOKEN" if self.connection.token or get_token() else "no token (HF_TOKEN is not set)"
        return refusal(error, self.model, self.endpoint, token)

    def _unavailable(self, reason: str) -> RetryableError:
        return RetryableError(
            f"hub unavailable: {self.where}: {reason}. Nothing was published and partial downloads are kept; "
            "run the same command again later."
        )
