"""A store in a folder, the default: files appear complete by rename, under a lock that makes the conditions atomic.

It needs `flock` and `rename` only, so it works where there are no hard links: exFAT, FAT, many network mounts. Several
processes of one machine are safe on every file system; several machines, where locks reach across them (NFS, SMB).
"""

import errno
import fcntl
import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

from ..errors import FoundryError, InputError, IntegrityError, RemoteError, RetryableError
from ..output.folder import sync_folder
from .store import ProgressCallback, VersionedBytes

UPLOADS, LOCK = "uploads", "lock"
BLOCK_BYTES = 1 << 20
FULL = {errno.ENOSPC, errno.EDQUOT}
# The path is not one that this file system can have.
BAD_PATH = {errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.EILSEQ, errno.ENOTDIR, errno.EISDIR, errno.EEXIST}


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
        """Do nothing: the lock makes the conditions, and every write takes it."""

    def get_size(self, key: str) -> int | None:
        """Look up a file's size in bytes."""
        with self._translate_errors(f"look up {key}"):
            path = self.folder / key
            return path.stat().st_size if path.is_file() else None

    def create(self, key: str, source: Path, on_progress: ProgressCallback) -> None:
        """Copy to a temporary file, sync, and rename it unless the name exists: a renamed file appears complete."""
        with self._translate_errors(f"write {key}"), self._temporary_file() as file:
            with source.open("rb") as source_file:
                while block := source_file.read(BLOCK_BYTES):
                    file.write(block)
                    on_progress(len(block))
            _sync(file)
            with self._lock():
                if not (self.folder / key).exists():
                    self._rename(file, key)

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
        with self._translate_errors(f"write {key}"), self._temporary_file() as file:
            file.write(data)
            _sync(file)
            with self._lock():
                current = self.read(key)
                if (current.version if current else None) != version:
                    return False
                self._rename(file, key)
            return True

    def list_keys(self, prefix: str) -> list[str]:
        """List files, but not those that systems leave in folders: .DS_Store, ._stable.json, .nfs0001."""
        keys = []
        with self._translate_errors(f"list {prefix}"), suppress(FileNotFoundError):
            for folder, subfolders, names in os.walk(self.folder / prefix.rpartition("/")[0], onerror=_raise):
                subfolders[:] = [name for name in subfolders if not name.startswith(".")]
                paths = [Path(folder, name) for name in names if not name.startswith(".")]
                keys += [path.relative_to(self.folder).as_posix() for path in paths]
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

    def _rename(self, file: BinaryIO, key: str) -> None:
        """Give a temporary file its name, replacing what has it; the caller holds the lock."""
        final = self.folder / key
        final.parent.mkdir(parents=True, exist_ok=True)
        Path(file.name).replace(final)
        sync_folder(final.parent)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Hold the store's lock, which the kernel releases when its holder dies."""
        with (self.folder / LOCK).open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                raise RemoteError(
                    f"{self.address}: this file system has no file locks (flock: {error.strerror}), so two promotions "
                    "could both win. Mount it with locks (Lustre: flock; NFS: not nolock), or choose another --store."
                ) from error
            yield

    @contextmanager
    def _temporary_file(self) -> Iterator[BinaryIO]:
        """Yield a new file, locked while this process lives; unless it was renamed, it is removed at the end."""
        folder = self.folder / UPLOADS
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / uuid.uuid4().hex
        with self._lock():  # or `remove_stale_uploads` could come between the two steps
            file = path.open("xb")
            fcntl.flock(file, fcntl.LOCK_EX)
        with file:
            try:
                yield file
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
        if error.errno in BAD_PATH:
            return InputError(f"{message}. --store must name a folder, existing or new.")
        if error.errno == errno.EFBIG:
            return RemoteError(f"{message}. This file system takes no file of this size (FAT: 4 GB); use another.")
        next_step = "Free disk space" if error.errno in FULL else "Check the disk or the mount"
        return RetryableError(f"{message}. No release was partly published. {next_step}, then run again.")


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _raise(error: OSError) -> NoReturn:
    raise error
