"""huggingface_hub's cache: what it holds, whether the bytes are right, and how wrong ones leave it.

A file of a commit, `snapshots/COMMIT/NAME`, links to `blobs/ETAG`; the ETag that the hub sends with a commit is the
SHA-256 of files in LFS, and git's SHA-1 of the others: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from embed_foundry import manifest
from huggingface_hub import errors, snapshot_download, try_to_load_from_cache
from huggingface_hub.file_download import _create_symlink, repo_folder_name
from huggingface_hub.utils import WeakFileLock

from stages.common.sources.hub.repository import Repository


@dataclass(frozen=True)
class RepositoryCache:
    """The cached files of one repository at one commit.

    Attributes:
        repository: whose files.
        folder: huggingface_hub's cache.
    """

    repository: Repository
    folder: Path

    def find(self, name: str) -> Path | None:
        """Return the path of a cached file, None if it is missing."""
        path = try_to_load_from_cache(
            self.repository.repo_id,
            name,
            cache_dir=self.folder,
            revision=self.repository.revision,
            repo_type=self.repository.kind,
        )
        return Path(path) if isinstance(path, str) else None

    def find_snapshot(self) -> Path | None:
        """Return the folder of the commit's cached files, None if it is missing."""
        try:
            path = snapshot_download(
                self.repository.repo_id,
                repo_type=self.repository.kind,
                revision=self.repository.revision,
                cache_dir=self.folder,
                local_files_only=True,
            )
        except errors.LocalEntryNotFoundError:
            return None
        return Path(path)

    def remove(self, path: Path) -> None:
        """Remove a file: its name in the snapshot, and the blob that it links to."""
        blob = path.resolve()
        path.unlink()
        if blob.parent.name == "blobs":
            blob.unlink(missing_ok=True)

    @contextmanager
    def lock(self, etag: str) -> Iterator[None]:
        """Keep other processes, huggingface_hub's too, from downloading the same bytes while the block runs."""
        path = self.folder / ".locks" / self._folder.name / f"{etag}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(path):
            yield

    def holds(self, etag: str) -> bool:
        """Return whether the bytes are here, whatever their names."""
        return (self._blobs / etag).exists()

    def partial(self, etag: str) -> Path:
        """Return where the bytes of a download stand until it is complete."""
        self._blobs.mkdir(parents=True, exist_ok=True)
        return self._blobs / f"{etag}.incomplete"

    def complete(self, etag: str) -> None:
        """Take a partial download as complete."""
        self.partial(etag).replace(self._blobs / etag)

    def link(self, name: str, etag: str) -> Path:
        """Let a file of the commit be these bytes; return its path in the snapshot."""
        path = self._folder / "snapshots" / self.repository.revision / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # huggingface_hub's own function, for disks without links.
        _create_symlink(str(self._blobs / etag), str(path), new_blob=False)
        return path

    @property
    def _blobs(self) -> Path:
        return self._folder / "blobs"

    @property
    def _folder(self) -> Path:
        name: str = repo_folder_name(repo_id=self.repository.repo_id, repo_type=self.repository.kind)
        return self.folder / name


def is_inside(name: str) -> bool:
    """Return whether a file's name stays inside the folder of its repository, on every system."""
    path = PureWindowsPath(name)
    return not (path.anchor or ".." in path.parts)


def find_fault(path: Path, pin: str | None = None, declared: str | None = None) -> str | None:
    """Return what is wrong with the bytes of a cached file, None if they are right.

    Right are the pinned bytes; without a pin, those that the hub declares for the commit.

    Args:
        path: the file in a snapshot.
        pin: SHA-256 from the configuration.
        declared: the digest that the hub lists for the file; by default the ETag under which it is cached.
    """
    etag = path.resolve().name
    if pin:
        actual = manifest.sha256(path)
        note = " (as the hub declares: the pin is another commit's)" if actual == etag else ""
        return None if actual == pin else f"has sha256 {actual}{note}; model.files pins {pin}"
    declared = declared or etag
    if re.fullmatch("[0-9a-f]{40}", declared):
        actual = _git_sha1(path)
    elif re.fullmatch("[0-9a-f]{64}", declared):
        actual = manifest.sha256(path)
    else:
        return f"has no digest to check by: it has no pin, and the hub's ETag is {declared!r}"
    return None if actual == declared else f"has digest {actual}; the hub declares {declared}"


def _git_sha1(path: Path) -> str:
    """Return git's name of a file's bytes: SHA-1 over a header with the size, and the bytes."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
