"""Where a new model's files are: a repository of the hub at one commit, or a folder."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from embed_foundry import manifest
from embed_foundry.errors import InputError

from stages.common.sources import intake
from stages.common.sources.hub import Connection, HubClient, HubFile, Reason, Refusal, Repository

SHA256_DIGITS = 64
# The length of a safetensors file's header, which stands before it: an unsigned number of 8 bytes, little-endian.
# https://huggingface.co/docs/safetensors/index#format
LENGTH_BYTES = 8


@dataclass(frozen=True)
class WeightsOutline:
    """A safetensors file without its numbers.

    Attributes:
        header: its first bytes: the header's length, and the header, which says names, types and shapes.
        size: of the whole file, in bytes.
    """

    header: bytes
    size: int


class Origin(Protocol):
    """Where a model's files are.

    Attributes:
        sizes: bytes of each file, by name.
        gated: whether users must accept a licence before a download.
    """

    sizes: dict[str, int]
    gated: bool

    def read(self, name: str) -> Path:
        """Return the path of a small file's bytes."""

    def outline(self, name: str) -> WeightsOutline:
        """Return what a file of weights holds."""

    def pin(self, name: str) -> str:
        """Return the SHA-256 of a file."""


@dataclass(frozen=True)
class _Guidance:
    """What messages about a repository say."""

    repo: str
    revision: str

    @property
    def label(self) -> str:
        return f"{self.repo}@{self.revision[:12]}"

    @property
    def gated_codes(self) -> frozenset[int]:
        return frozenset()

    def explain(self, refusal: Refusal) -> str:
        code, page, token = refusal.code, refusal.page, refusal.token
        return {
            Reason.NO_COMMIT: f"no such revision (HTTP {code}). Choose one of {page}/commits/main",
            Reason.NO_FILE: f"no such file at this commit (HTTP {code}). Run the same command again.",
            Reason.GATED: f"gated (HTTP {code}), asked with {token}. Accept the licence at {page} and set HF_TOKEN to "
            "a token of that account which may read gated repositories.",
            Reason.DENIED: f"access refused (HTTP {code}), asked with {token}: no such repository, a private one, or a "
            "bad token. Correct the name, or set HF_TOKEN to a token that may read it.",
            Reason.NO_REPOSITORY: f"no such repository (HTTP {code}), asked with {token}. Correct the name; a folder "
            "needs a path such as ./FOLDER.",
            Reason.OTHER: f"refused (HTTP {code}). Check the name, --revision and HF_ENDPOINT.",
        }[refusal.reason]


class HubOrigin:
    """A repository of the hub.

    Args:
        repo: its name.
        revision: a commit, branch or tag.
        connection: how to reach the hub.

    Attributes:
        commit: the commit that the revision names now, 40 hex digits.
        sizes: bytes of each file, by name.
        gated: whether users must accept a licence before a download.

    Raises:
        InputError: offline, or the name is not one of a repository.
        RemoteError: gated, forbidden, no such repository or revision.
        RetryableError: the hub stays unavailable after bounded retries.
    """

    def __init__(self, repo: str, revision: str, connection: Connection) -> None:
        self._connection = connection
        client = self._open(repo, revision)
        if client.offline:
            raise InputError(
                f"{repo}: HF_HUB_OFFLINE is set, and only the hub knows a repository's commit and files. Run without "
                "it, or name a folder that holds the model."
            )
        info = client.describe()
        self.commit, self.gated = info.commit, info.gated
        self.sizes = {name: file.size for name, file in info.files.items()}
        self._files: dict[str, HubFile] = info.files
        self._client = self._open(repo, info.commit)

    def read(self, name: str) -> Path:
        """Return the path of a file in huggingface_hub's cache, downloaded if need be and checked.

        Raises:
            IntegrityError: wrong bytes.
            RemoteError, RetryableError: as the class.
        """
        return self._client.fetch(name, self.sizes[name], declared=self._files[name].digest)

    def outline(self, name: str) -> WeightsOutline:
        """Return what a file of weights holds; only its beginning is downloaded.

        Raises:
            IntegrityError: it is no safetensors file.
            RemoteError, RetryableError: as the class.
        """
        header = self._client.read_weights_header(name)
        entries: dict[str, object] = {
            tensor: {"dtype": info.dtype, "shape": info.shape, "data_offsets": info.data_offsets}
            for tensor, info in header.tensors.items()
        }
        text = json.dumps({"__metadata__": header.metadata, **entries} if header.metadata else entries).encode()
        end = max((info.data_offsets[1] for info in header.tensors.values()), default=0)
        return WeightsOutline(len(text).to_bytes(LENGTH_BYTES, "little") + text, LENGTH_BYTES + len(text) + end)

    def pin(self, name: str) -> str:
        """Return the SHA-256 of a file: the hub's own of one in LFS, else of the bytes.

        Raises:
            IntegrityError, RemoteError, RetryableError: as `read`.
        """
        digest = self._files[name].digest
        return digest if len(digest) == SHA256_DIGITS else manifest.sha256(self.read(name))

    def _open(self, repo: str, revision: str) -> HubClient:
        return HubClient(Repository("model", repo, revision), _Guidance(repo, revision), self._connection)


class FolderOrigin:
    """A folder with a SentenceTransformer.

    Args:
        folder: the folder.

    Attributes:
        sizes: bytes of each file, by name.
        gated: whether users must accept a licence before a download; nobody asks for a folder.

    Raises:
        IntegrityError: it holds code, pickles or links that leave it.
    """

    gated = False

    def __init__(self, folder: Path) -> None:
        intake.check_folder(folder)
        self._folder = folder
        self.sizes = {
            path.relative_to(folder).as_posix(): path.stat().st_size
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    def read(self, name: str) -> Path:
        """Return the path of a file."""
        return self._folder / name

    def outline(self, name: str) -> WeightsOutline:
        """Return what a file of weights holds.

        Raises:
            IntegrityError: it is no whole safetensors file.
        """
        path = self._folder / name
        intake.check_file(path)
        with path.open("rb") as file:
            length = file.read(LENGTH_BYTES)
            return WeightsOutline(length + file.read(int.from_bytes(length, "little")), self.sizes[name])

    def pin(self, name: str) -> str:
        """Return the SHA-256 of a file."""
        return manifest.sha256(self._folder / name)


def digest_of_pins(pins: Mapping[str, str]) -> str:
    """Return 40 hex digits that stand for a folder's files, in place of a commit: SHA-256 over names and pins."""
    return hashlib.sha256(manifest.canonical(dict(pins))).hexdigest()[:40]
