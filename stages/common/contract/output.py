"""How a stage writes its output: verify inputs, hold a lock, work in a hidden folder, fsync, rename, manifest last.

Whatever kills a stage, its output folder is either absent or complete; a second writer is refused (exit 75).
"""

import errno
import fcntl
import importlib.metadata
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from embed_foundry import RetryableError, manifest
from embed_foundry.errors import InputError


@contextmanager
def stage_output(
    out: Path,
    *,
    stage: str,
    parameters: Mapping[str, object],
    inputs: Mapping[str, Path],
    libraries: Sequence[str] = (),
    needs_bytes: int = 0,
) -> Iterator[Path]:
    """Yield an empty work folder that becomes `out`, complete and with a manifest, if the block ends without an error.

    Args:
        out: the output folder; what is there now is replaced.
        stage: the DVC stage's name, recorded so that later errors can name what to run again.
        parameters: the configuration that shaped the output; JSON values.
        inputs: name to folder; each is verified against its manifest and its digest recorded.
        libraries: distributions whose versions shape the bytes.
        needs_bytes: free disk space to require before the work starts.

    Raises:
        IntegrityError: an input folder differs from its manifest.
        RetryableError: another process is writing `out`, or the disk is too small or fills up.
        InputError: `out` cannot be written.
    """
    digests = {name: manifest.verify(folder).digest for name, folder in inputs.items()}
    with atomic_folder(out, needs_bytes) as work:
        yield work
        versions = library_versions(libraries)
        manifest.write(work, {"stage": stage, "parameters": parameters, "inputs": digests, "libraries": versions})


@contextmanager
def atomic_folder(out: Path, needs_bytes: int = 0) -> Iterator[Path]:
    """Yield an empty work folder that becomes `out` if the block ends without an error; until then `out` is unchanged.

    Args:
        out: the folder; what is there now is replaced.
        needs_bytes: free disk space to require before the work starts.

    Raises:
        RetryableError: another process is writing `out`, or the disk is too small or fills up.
        InputError: `out` cannot be written.
    """
    work, previous = out.with_name(f".{out.name}.partial"), out.with_name(f".{out.name}.old.partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with _lock(out.with_name(f".{out.name}.lock"), out):
            _require_space(out.parent, needs_bytes)
            # A killed run may have left these; the lock guarantees that nobody uses them.
            _restore(previous, out)
            shutil.rmtree(previous, ignore_errors=True)
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            try:
                yield work
                _sync_tree(work)
                if out.exists():
                    out.rename(previous)  # removing it in place would leave a broken folder meanwhile
                work.rename(out)
                sync_folder(out.parent)
                shutil.rmtree(previous, ignore_errors=True)
            except BaseException:
                _restore(previous, out)
                shutil.rmtree(work, ignore_errors=True)
                raise
    except OSError as error:
        raise _translate(error, out) from error


def library_versions(libraries: Sequence[str]) -> dict[str, str]:
    """Return the installed version of each distribution."""
    return {name: importlib.metadata.version(name) for name in sorted(libraries)}


def folder_size(folder: Path) -> int:
    """Return the bytes of all files under a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def sync_folder(folder: Path) -> None:
    """Make renames in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _lock(path: Path, out: Path) -> Iterator[None]:
    """Hold an flock, which the kernel releases however its holder dies; the file's text names the holder."""
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise RetryableError(
                f"{out}: process {file.read().strip() or 'unknown'} is writing it. "
                "Wait until it ends, or end it, then run the same command again."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _restore(previous: Path, out: Path) -> None:
    """Undo the first of the two renames of a replacement."""
    if previous.exists() and not out.exists():
        previous.rename(out)


def _require_space(folder: Path, needs_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needs_bytes:
        raise RetryableError(
            f"{folder}: needs {needs_bytes / 1e6:.0f} MB of free disk, has {free / 1e6:.0f} MB. "
            "Free some, then run again."
        )


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    sync_folder(folder)


def _translate(error: OSError, out: Path) -> Exception:
    path = error.filename or out
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return RetryableError(f"{path}: the disk is full; nothing was written. Free some space, then run again.")
    if error.errno in {errno.EACCES, errno.EROFS, errno.EPERM}:
        return InputError(f"{path}: cannot be written ({error.strerror}). Make it writable, then run again.")
    return error
