"""A store in a folder, the embedded default: whole objects by link, pointers by compare and swap under a lock."""

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

from stages.commands.promote.store import Document, Moved
from stages.common.contract.output import sync_folder

UPLOADS, LOCK = "uploads", "lock"
BLOCK = 1 << 20


@dataclass(frozen=True)
class FileStore:
    """A folder. The methods' contract: `store.Store`. Several processes of one machine may use it at once.

    Attributes:
        folder: made at the first write.
    """

    folder: Path

    @property
    def where(self) -> str:
        """Return the address."""
        return f"file://{self.folder}"

    def require_conditions(self) -> None:
        """Do nothing: the file system's links, renames and locks are the conditions."""

    def size(self, key: str) -> int | None:
        """Look up a file's size in bytes."""
        with self._explained(f"look up {key}"):
            path = self.folder / key
            return path.stat().st_size if path.is_file() else None

    def create(self, key: str, source: Path, moved: Moved) -> None:
        """Copy beside, sync, and link: a link fails where the name exists, and gives a whole file where it does not."""
        with self._explained(f"write {key}"), self._upload() as path:
            with source.open("rb") as given, path.open("wb") as file:
                while block := given.read(BLOCK):
                    file.write(block)
                    moved(len(block))
                file.flush()
                os.fsync(file.fileno())
            final = self.folder / key
            final.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                os.link(path, final)
            sync_folder(final.parent)

    def stream(self, key: str) -> Iterator[bytes]:
        """Read in blocks of 1 MiB."""
        with self._explained(f"read {key}"):
            try:
                file = (self.folder / key).open("rb")
            except FileNotFoundError:
                raise IntegrityError(f"{self.where}/{key}: missing. Publish the release again.") from None
            with file:
                while block := file.read(BLOCK):
                    yield block

    def read(self, key: str) -> Document | None:
        """Read a small file; its digest is its version."""
        with self._explained(f"read {key}"):
            try:
                data = (self.folder / key).read_bytes()
            except FileNotFoundError:
                return None
            return Document(data, hashlib.sha256(data).hexdigest())

    def swap(self, key: str, data: bytes, version: str | None) -> bool:
        """Compare and rename under the store's lock, which the kernel drops when its holder dies."""
        with self._explained(f"write {key}"), self._upload() as path:
            with path.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            with self._locked():
                found = self.read(key)
                if (found.version if found else None) != version:
                    return False
                final = self.folder / key
                final.parent.mkdir(parents=True, exist_ok=True)
                path.replace(final)
                sync_folder(final.parent)
            return True

    def keys(self, prefix: str) -> list[str]:
        """List files."""
        with self._explained(f"list {prefix}"):
            found = [path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()]
        return sorted(key for key in found if key.startswith(prefix))

    def sweep(self) -> int:
        """Remove partial copies that no living process holds."""
        removed = 0
        uploads = self.folder / UPLOADS
        with self._explained("look for broken-off uploads"):
            if not uploads.is_dir():
                return 0
            with self._locked():
                for path in sorted(uploads.iterdir()):
                    with suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        path.unlink()
                        removed += 1
        return removed

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the store's lock, which the kernel drops when its holder dies."""
        with (self.folder / LOCK).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _upload(self) -> Iterator[Path]:
        """Yield a new file's path, locked as long as this process lives; what is left under that name is removed."""
        folder = self.folder / UPLOADS
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / uuid.uuid4().hex
        with self._locked():  # or `sweep` could come between the two
            file = path.open("xb")
            fcntl.flock(file, fcntl.LOCK_EX)
        with file:
            try:
                yield path
            finally:
                path.unlink(missing_ok=True)

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._refused(error, doing) from error

    def _refused(self, error: OSError, doing: str) -> FoundryError:
        said = f"{self.where}: {doing}: {error.strerror}"
        if isinstance(error, PermissionError) or error.errno == 30:  # EROFS
            return RemoteError(f"{said}. Make the folder writable for this user, or choose another --store.")
        if isinstance(error, NotADirectoryError | FileExistsError | IsADirectoryError):
            return InputError(f"{said}. --store must name a folder, or one to make.")
        return RetryableError(f"{said}. Nothing was published by half; free the disk or repair it, then run again.")
