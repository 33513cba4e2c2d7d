"""A store in a folder, the default: objects appear complete by link, pointers by compare and swap under a lock."""

import errno
import fcntl
import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from embed_foundry import InputError, IntegrityError, RemoteError, RetryableError
from embed_foundry.errors import FoundryError

from stages.commands.promote.store import ProgressCallback, VersionedBytes
from stages.common.contract.output import sync_folder

UPLOADS, LOCK = "uploads", "lock"
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class FileStore:
    """A folder. For what the methods promise see `store.Store`. Several processes of one machine may use it at once.

    Attributes:
        folder: made at the first write.
    """

    folder: Path

    @property
    def address(self) -> str:
        """Return the address."""
        return f"file://{self.folder}"

    def require_conditional_writes(self) -> None:
        """Do nothing: the file system's links, renames and locks are the conditions."""

    def get_size(self, key: str) -> int | None:
        """Look up a file's size in bytes."""
        with self._translate_errors(f"look up {key}"):
            path = self.folder / key
            return path.stat().st_size if path.is_file() else None

    def create(self, key: str, source: Path, on_progress: ProgressCallback) -> None:
        """Copy to a temporary file, sync, and link: a link appears complete, and fails where the name exists."""
        with self._translate_errors(f"write {key}"), self._temporary_file() as path:
            with source.open("rb") as source_file, path.open("wb") as file:
                while block := source_file.read(BLOCK_BYTES):
                    file.write(block)
                    on_progress(len(block))
                file.flush()
                os.fsync(file.fileno())
            final = self.folder / key
            final.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                os.link(path, final)
            sync_folder(final.parent)

    def stream(self, key: str) -> Iterator[bytes]:
        """Read in blocks of 1 MiB."""
        with self._translate_errors(f"read {key}"):
            try:
                file = (self.folder / key).open("rb")
            except FileNotFoundError:
                raise IntegrityError(f"{self.address}/{key}: missing. Publish the release again.") from None
            with file:
                while block := file.read(BLOCK_BYTES):
                    yield block

    def read(self, key: str) -> VersionedBytes | None:
        """Read a small file; its digest is its version."""
        with self._translate_errors(f"read {key}"):
            try:
                data = (self.folder / key).read_bytes()
            except FileNotFoundError:
                return None
            return VersionedBytes(data, hashlib.sha256(data).hexdigest())

    def compare_and_swap(self, key: str, data: bytes, version: str | None) -> bool:
        """Compare and rename under the store's lock, which the kernel releases when its holder dies."""
        with self._translate_errors(f"write {key}"), self._temporary_file() as path:
            with path.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            with self._lock():
                current = self.read(key)
                if (current.version if current else None) != version:
                    return False
                final = self.folder / key
                final.parent.mkdir(parents=True, exist_ok=True)
                path.replace(final)
                sync_folder(final.parent)
            return True

    def list_keys(self, prefix: str) -> list[str]:
        """List files."""
        with self._translate_errors(f"list {prefix}"):
            keys = [path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()]
        return sorted(key for key in keys if key.startswith(prefix))

    def remove_stale_uploads(self) -> int:
        """Remove temporary files that no living process holds."""
        removed = 0
        uploads = self.folder / UPLOADS
        with self._translate_errors("look for stale uploads"):
            if not uploads.is_dir():
                return 0
            with self._lock():
                for path in sorted(uploads.iterdir()):
                    with suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        path.unlink()
                        removed += 1
        return removed

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Hold the store's lock, which the kernel releases when its holder dies."""
        with (self.folder / LOCK).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _temporary_file(self) -> Iterator[Path]:
        """Yield a new file's path, locked while this process lives; a file still at that path is removed at the end."""
        folder = self.folder / UPLOADS
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / uuid.uuid4().hex
        with self._lock():  # or `remove_stale_uploads` could come between the two steps
            file = path.open("xb")
            fcntl.flock(file, fcntl.LOCK_EX)
        with file:
            try:
                yield path
            finally:
                path.unlink(missing_ok=True)

    @contextmanager
    def _translate_errors(self, action: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._translate(error, action) from error

    def _translate(self, error: OSError, action: str) -> FoundryError:
        message = f"{self.address}: {action}: {error.strerror}"
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            return RemoteError(f"{message}. Make the folder writable for this user, or choose another --store.")
        if isinstance(error, NotADirectoryError | FileExistsError | IsADirectoryError):
            return InputError(f"{message}. --store must name a folder, existing or new.")
        return RetryableError(
            f"{message}. No release was partly published; free disk space or repair the disk, then run again."
        )
