"""Writes a folder or a file whole: hold a lock, work in a hidden neighbour, fsync, rename.

Whatever kills the writer, what it writes is either absent or complete; a second writer is refused (exit 75). What it
replaces stays until then, and is exchanged in one step where the system can.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import FoundryError, RetryableError
from ..system_errors import NO_INODES, has_no_inodes, system_error
from . import leftovers, lock
from .exchange import exchange


@contextmanager
def atomic_folder(
    out: Path, needs_bytes: int = 0, before_replacing: Callable[[], object] = lambda: None
) -> Iterator[Path]:
    """Yield an empty work folder that becomes `out` if the block ends without an error; until then `out` is unchanged.

    Args:
        out: the folder; what is there now is replaced.
        needs_bytes: free disk space to require before the work starts.
        before_replacing: called when the folder is complete; what it raises leaves `out` as it is.

    Raises:
        RetryableError: another process is writing `out`, or the disk is too small or fills up.
        InputError: `out` cannot be written.
    """
    work, previous, lock_file = leftovers.name_work_paths(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with lock.hold(lock_file, out):
            leftovers.clear(out)
            require_space(out.parent, needs_bytes)
            work.mkdir()
            try:
                yield work
                _sync_tree(work)
                before_replacing()
                _replace(out, work, previous)
                sync_folder(out.parent)
                shutil.rmtree(previous, ignore_errors=True)
            except BaseException as error:
                refused = _translate(error, out)  # before what fills the disk is removed
                leftovers.clear(out)
                if refused:
                    raise refused from error
                raise
    except OSError as error:
        raise (_translate(error, out) or error) from None


def replace_file(path: Path, content: bytes) -> None:
    """Write a file in one step: see `atomic_file`."""
    with atomic_file(path) as work:
        work.write_bytes(content)


@contextmanager
def atomic_file(path: Path, needs_bytes: int = 0) -> Iterator[Path]:
    """Yield a work file that becomes `path` if the block ends without an error.

    Whatever interrupts it, `path` has its old bytes or all of the new ones.

    Args:
        path: the file.
        needs_bytes: free disk space to require before the work starts.

    Raises:
        RetryableError: the disk is full, or too small.
        InputError: the file cannot be written.
    """
    work = path.with_name(f".{path.name}.partial")
    try:
        if needs_bytes:
            require_space(path.resolve().parent, needs_bytes)
        try:
            yield work
            with work.open("rb") as file:
                os.fsync(file.fileno())
            work.replace(path)
        except BaseException:  # Ctrl-C as well
            with suppress(OSError):
                work.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise (_translate(error, path) or error) from None


def require_space(folder: Path, needs_bytes: int) -> None:
    """Refuse to begin what would fill the disk.

    Raises:
        RetryableError: the folder's file system has less free space, or no inodes.
    """
    free = shutil.disk_usage(folder).free
    if free < needs_bytes:
        raise RetryableError(
            f"{folder}: needs {needs_bytes / 1e6:.0f} MB of free disk, has {free / 1e6:.0f} MB. "
            "Free some, then run again."
        )
    if has_no_inodes(folder):
        raise RetryableError(f"{folder}: {NO_INODES}")


def sync_folder(folder: Path) -> None:
    """Make renames in a folder survive a power cut; some file systems (SMB, FUSE) have no such call and do without."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF}:
            raise
    finally:
        os.close(descriptor)


def _replace(out: Path, work: Path, previous: Path) -> None:
    """Put `work` in the place of `out`, which becomes `previous`; in one step where the system can."""
    if out.exists():  # removing it in place would leave a broken folder meanwhile
        if exchange(work, out):
            work.rename(previous)
            return
        out.rename(previous)
    work.rename(out)


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    sync_folder(folder)


def _translate(error: BaseException, out: Path) -> FoundryError | None:
    """Return what the system refused while `out` was written, named as users see it; None if it refused nothing."""
    refused = system_error(error, out) if isinstance(error, Exception) else None
    return refused and type(refused)(str(refused).replace(f".{out.name}.partial", out.name))
