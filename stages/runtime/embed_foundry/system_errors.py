"""What the operating system refused, in whatever library: an error to retry (exit 75), or one to correct (exit 2).

Libraries report it in many ways: as OSError, inside an error of their own that names the number, or only in words.
"""

import errno
import os
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .errors import FoundryError, InputError, RetryableError

# Number -> what is wrong, and what to do. The same command may succeed later.
RETRYABLE = {
    errno.ENOSPC: "the disk is full; nothing was written. Free some space, then run again.",
    errno.EDQUOT: "the disk quota is used up; nothing was written. Free some space, then run again.",
    errno.EMFILE: "this process may open no more files. Raise the limit (ulimit -n), then run again.",
    errno.ENFILE: "the system may open no more files. Close other programs, then run again.",
    errno.ENOMEM: "memory is out. Close other programs, or use a machine with more, then run again.",
    errno.EIO: "reading or writing failed: the disk is full or faulty. Free some space or check it, then run again.",
    errno.ESTALE: "the network file system has lost it. Mount it again, then run again.",
    errno.ENOLCK: "the file system gives no lock. Check the network file system's lock service, then run again.",
    **dict.fromkeys(
        (errno.EAGAIN, errno.EBUSY, errno.ETXTBSY, errno.EINTR, errno.EDEADLK),
        "is in use by another process. Run again when that has ended.",
    ),
    **dict.fromkeys(
        (
            *(errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EHOSTUNREACH, errno.ENETUNREACH),
            *(errno.ENETDOWN, errno.EHOSTDOWN, errno.ETIMEDOUT, errno.EPIPE),
        ),
        "the connection failed. Check the network, then run again.",
    ),
}
# Likewise, but the same command will fail again.
LASTING = {
    errno.EROFS: "cannot be written (Read-only file system). Make it writable, then run again.",
    errno.EACCES: "cannot be opened or written (Permission denied). Make it accessible to this user, then run again.",
    errno.EPERM: "cannot be changed (Operation not permitted). Make it writable to this user, then run again.",
    errno.ENAMETOOLONG: "the name is too long for this file system. Choose a shorter name, or a folder higher up.",
    errno.ENOENT: "cannot be opened or written (No such file or directory). Check the path.",
    errno.ENOTDIR: "a part of the path is a file, expected folders. Check the path.",
    errno.EISDIR: "is a folder, expected a file. Check the path.",
    errno.EEXIST: "is there already. Choose another path, or remove it first.",
    errno.ENOTEMPTY: "is a folder with content. Choose another path, or remove it first.",
    errno.ELOOP: "is a link that leads back to itself. Remove it.",
    errno.EFBIG: "is larger than this file system, or this process, may write. Choose another file system.",
}
# SQLite's own numbers, in the low byte of an error's code: https://www.sqlite.org/rescode.html
SQLITE = {
    **{3: errno.EACCES, 5: errno.EBUSY, 6: errno.EBUSY, 7: errno.ENOMEM, 8: errno.EROFS, 10: errno.EIO},
    **{13: errno.ENOSPC, 14: errno.EACCES},
}
# As Python, Rust and C++ libraries name the number in an error of their own.
NUMBERED = re.compile(r"\[Errno (\d+)\]|\(os error (\d+)\)|\[errno:? (\d+)\]", re.IGNORECASE)
# Numbers that libraries name in words alone; other words are too common to tell anything.
IN_WORDS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO),
    *(errno.EROFS, errno.ENAMETOOLONG),
)
OUT_OF_MEMORY = (
    *("out of memory", "can't allocate memory", "not enough memory", "bad_alloc", "bad allocation"),
    "failed to allocate memory",
)
STREAM_FAILED = "iostream error"  # all that C++'s own streams say
NO_INODES = "the file system has no inodes left; nothing was written. Remove some files, then run again."
# A place with less than this is full for the one who just failed to write there.
FULL_BYTES = 1 << 16


def system_error(error: BaseException, place: Path | None = None) -> FoundryError | None:
    """Return what the operating system refused, as an error with an exit code; None if it refused nothing.

    Args:
        error: what a library raised; what it was raised from is looked at, too.
        place: the file or folder that was worked on, for errors that name none.
    """
    refused = _translate(error, place)
    if refused is None and not isinstance(error, FoundryError) and (full := find_full(place)):
        return _explain(errno.ENOSPC, full, error)  # some libraries say "write failed" and no more
    return refused


def retryable_error(error: BaseException, place: Path | None = None) -> RetryableError | None:
    """Return what the operating system refused for now, as `system_error` does; None if it was something else.

    For code that takes every other error of a library for damaged content: a full disk does not make a file a bad one.
    """
    refused = _translate(error, place)
    return refused if isinstance(refused, RetryableError) else None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error, of whatever library, says that memory is out."""
    return _number_of(error) == errno.ENOMEM


def find_full(place: Path | None = None) -> Path | None:
    """Return the first full place: `place`, the folder for temporary files, or the working folder; None if none is."""
    for path in (place, Path(tempfile.gettempdir()), Path.cwd()):
        if path is not None and _is_full(path):
            return path
    return None


def has_no_inodes(path: Path) -> bool:
    """Return whether the file system of a path can hold no further file; False where it has no such number."""
    if sys.platform == "win32":
        return False
    state = os.statvfs(_existing(path))
    return bool(state.f_files) and not state.f_favail


def _translate(error: BaseException, place: Path | None) -> FoundryError | None:
    for link in _chain(error):
        if isinstance(link, FoundryError):
            return None  # somebody has judged it already
        number = _number_of(link)
        if number is not None:
            return _explain(number, _path_of(link) or place, link)
    for link in _chain(error):
        if isinstance(link, OSError):
            return _explain_unnumbered(link, place)
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was raised from; not what merely came before it, which may concern something else."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__


def _number_of(error: BaseException) -> int | None:
    """Return the operating system's number of an error; None if the error has none."""
    if isinstance(error, socket.gaierror):
        return errno.EHOSTUNREACH  # its numbers are those of the name service
    if isinstance(error, OSError) and error.errno:
        return error.errno
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(code := getattr(error, "sqlite_errorcode", None), int):
        return SQLITE.get(code & 0xFF)
    text = str(error)
    if numbered := NUMBERED.search(text):
        return int(next(filter(None, numbered.groups())))
    text = text.lower()
    in_words = (number for number in IN_WORDS if os.strerror(number).lower() in text)
    if number := next(in_words, None):
        return number
    if any(words in text for words in OUT_OF_MEMORY):
        return errno.ENOMEM
    return errno.EIO if STREAM_FAILED in text else None


def _path_of(error: BaseException) -> Path | None:
    """Return the file or folder that an error names; None if it names none."""
    if isinstance(error, OSError):
        name = error.filename2 or error.filename
        if isinstance(name, str | bytes | os.PathLike):
            return Path(os.fsdecode(name))
        # shutil.Error: a list of (source, destination, why).
        if error.args and isinstance(error.args[0], list) and error.args[0]:
            return Path(str(error.args[0][0][1]))
    return None


def _explain(number: int, place: Path | None, error: BaseException) -> FoundryError:
    if number in {errno.ENOSPC, errno.EDQUOT}:
        place = find_full(place) or place
        if place is not None and has_no_inodes(place):
            return RetryableError(f"{place}: {NO_INODES}")
    prefix = f"{place or Path.cwd()}: " if number != errno.ENOMEM else ""
    if number in RETRYABLE:
        return RetryableError(prefix + RETRYABLE[number])
    if number in LASTING:
        return InputError(prefix + LASTING[number])
    return InputError(f"{prefix}{os.strerror(number)} ({_first_line(error)}). Check the path, then run again.")


def _explain_unnumbered(error: OSError, place: Path | None) -> FoundryError:
    """Judge an OSError without a number: a library's own words."""
    path, text = _path_of(error) or place, _first_line(error)
    where = f"{path}: " if path and str(path) not in text else ""
    if isinstance(error, ConnectionError | TimeoutError):
        return RetryableError(f"{where}the connection failed ({text}). Check the network, then run again.")
    return InputError(f"{where}{text.rstrip('.')}. Check the path, then run again.")


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _is_full(path: Path) -> bool:
    if sys.platform == "win32":
        return shutil.disk_usage(_existing(path)).free < FULL_BYTES
    state = os.statvfs(_existing(path))
    if state.f_flag & os.ST_RDONLY or not state.f_blocks:  # a medium without free space by design; no disk at all
        return False
    return state.f_bavail * state.f_frsize < FULL_BYTES or has_no_inodes(path)


def _existing(path: Path) -> Path:
    """Return the path, or the nearest folder above it that exists."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
