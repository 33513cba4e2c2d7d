"""A base model's configured files at the hub, and what messages say if the hub refuses them."""

from dataclasses import dataclass
from pathlib import Path

from embed_foundry.errors import InputError, RemoteError

from stages.common.config import Model
from stages.common.sources.hub import Connection, HubClient, Reason, Refusal, Repository


@dataclass(frozen=True)
class ModelGuidance:
    """What messages about a model's repository say."""

    model: Model

    @property
    def label(self) -> str:
        """How messages name the repository."""
        return str(_repository(self.model))

    @property
    def gated_codes(self) -> frozenset[int]:
        """HTTP statuses that mean a gated repository even if the answer does not say so."""
        return frozenset({401, 403} if self.model.license.gated else ())

    def explain(self, refusal: Refusal) -> str:
        """Return the fact and the next step."""
        code, page, token = refusal.code, refusal.page, refusal.token
        return {
            Reason.NO_COMMIT: f"no such commit (HTTP {code}). Correct model.revision: {page}/commits/main",
            Reason.NO_FILE: f"no such file at this commit (HTTP {code}). Correct model.files.",
            Reason.GATED: f"gated (HTTP {code}), asked with {token}. Accept the licence {self.model.license.name} at "
            f"{page} and set HF_TOKEN to a token of that account which may read gated repositories.",
            Reason.DENIED: f"access refused (HTTP {code}), asked with {token}: no such repository, a private one, or a "
            "bad token. Correct model.repo, or set HF_TOKEN to a token that may read it.",
            Reason.NO_REPOSITORY: f"no such repository (HTTP {code}), asked with {token}. Correct model.repo.",
            Reason.OTHER: f"refused (HTTP {code}). Check model.repo, model.revision and HF_ENDPOINT.",
        }[refusal.reason]


class HubSource:
    """The configured files of a model at the hub.

    Args:
        model: what to fetch, with its pins.
        connection: how to reach the hub.

    Attributes:
        sizes: bytes of each file, by name.

    Raises:
        RemoteError: gated, forbidden, no such repository, commit or file.
        RetryableError: the hub stays unavailable after bounded retries.
        InputError: offline, and not every file is in the cache.
        IntegrityError: the answers are not a hub's.
    """

    def __init__(self, model: Model, connection: Connection) -> None:
        self._model = model
        self._client = HubClient(_repository(model), ModelGuidance(model), connection)
        cached = {name: self._client.cache.find(name) for name in model.files}
        self._missing = [name for name, path in cached.items() if path is None]
        if self._missing and self._client.offline:
            raise InputError(
                f"{self._client.where}: HF_HUB_OFFLINE is set and the cache lacks {', '.join(self._missing)}. "
                "Run once without HF_HUB_OFFLINE, or fill the cache (HF_HOME) on a machine that reaches the hub."
            )
        if self._missing:
            self.sizes = self._list_sizes()
        else:
            self.sizes = {name: path.stat().st_size for name, path in cached.items() if path}

    @property
    def needs_bytes(self) -> int:
        """Free disk space that is needed, for the output and for what is still to come into the cache."""
        return sum(self.sizes.values()) + sum(self.sizes[name] for name in self._missing)

    def fetch(self, name: str) -> Path:
        """Return the path in the cache of one file, downloaded if need be, with its bytes checked.

        Raises:
            IntegrityError: the bytes are not the pinned ones, or without a pin not those the hub declares.
            RemoteError, RetryableError: as the class.
        """
        return self._client.fetch(name, self.sizes[name], pin=self._model.files[name])

    def _list_sizes(self) -> dict[str, int]:
        files = self._client.list_files()
        if absent := sorted(set(self._model.files) - set(files)):
            raise RemoteError(
                f"{self._client.where}: has no {', '.join(absent)}, which model.files lists. "
                "Correct model.files, or model.revision."
            )
        return {name: files[name].size for name in self._model.files}


def _repository(model: Model) -> Repository:
    return Repository("model", model.repo, model.revision)
