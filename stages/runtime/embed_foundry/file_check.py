"""One file of a folder: opened once, hashed in blocks, and if it differs, what has become of it."""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from .errors import InputError, IntegrityError

# First bytes of what stands for a file that git did not fetch -> what it is, and what fetches the file.
POINTERS = {
    b"version https://git-lfs.github.com/spec/": ("a Git LFS pointer", "git lfs pull"),
    b"version https://hawser.github.com/spec/": ("a Git LFS pointer", "git lfs pull"),
    b"# xet version ": ("a Xet pointer", "hf download OWNER/NAME --local-dir ."),
    b"/annex/objects/": ("a git-annex pointer", "git annex get ."),
}
LINE_ENDS = (
    r"its lines end with \r\n, at release they ended with \n: git changed them. Next, in that clone: "
    "git config core.autocrlf false, git rm -r --cached . and git reset --hard"
)
BLOCK = 1 << 20
# O_NONBLOCK: a FIFO that took the file's place would wait for its writer. O_BINARY: Windows would change line ends.
READING = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def require_bytes(path: Path, sha256: str, size: int, next_step: str) -> None:
    """Check a file's size and hash.

    Args:
        path: the file.
        sha256: the hex SHA-256 of its bytes.
        size: how many there are.
        next_step: the sentence that tells a user what to do if it differs for no reason that can be told.

    Raises:
        InputError: it cannot be read.
        IntegrityError: it is no regular file or has other bytes; the message says if it stands for a file that git did
            not fetch, or if git changed its line ends.
    """
    with open_regular(path, next_step) as file:
        actual_size = os.fstat(file.fileno()).st_size
        digest = hashlib.file_digest(file, "sha256").hexdigest() if actual_size == size else ""
        if digest == sha256:
            return
        file.seek(0)
        if pointer := describe_pointer(file.read(100)):
            raise IntegrityError(f"{path}: {pointer}")
        file.seek(0)
        if actual_size > size and _hash_with_unix_lines(file) == sha256:
            raise IntegrityError(f"{path}: {LINE_ENDS}")
    if actual_size != size:
        raise IntegrityError(f"{path}: has {actual_size} bytes, the manifest says {size}. {next_step}")
    raise IntegrityError(f"{path}: has sha256 {digest}, the manifest says {sha256}. {next_step}")


@contextmanager
def open_regular(path: Path, next_step: str) -> Iterator[BufferedReader]:
    """Open a regular file to read it.

    Raises:
        InputError: it may not be read.
        IntegrityError: it is no regular file, or the system cannot read it; the message ends with `next_step`.
    """
    try:
        with os.fdopen(os.open(path, READING), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise IntegrityError(f"{path}: is not a regular file. {next_step}")
            yield file
    except PermissionError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). Make it readable.") from None
    except OSError as error:
        raise IntegrityError(f"{path}: cannot be read ({error.strerror}). {next_step}") from None


def describe_pointer(start: bytes) -> str | None:
    """Return what a file is that stands for another one, and how to get that; None if it is none.

    Args:
        start: the file's first 100 bytes.
    """
    for first, (what, command) in POINTERS.items():
        if start.startswith(first):
            return f"is {what} in place of the file. Next, in that folder: {command}"
    return None


def _hash_with_unix_lines(file: BufferedReader) -> str:
    r"""Return the SHA-256 that a file would have if its lines ended with \n instead of \r\n."""
    hasher, held = hashlib.sha256(), b""
    while block := file.read(BLOCK):
        block = held + block
        held = b"\r" if block.endswith(b"\r") else b""
        hasher.update(block.removesuffix(held).replace(b"\r\n", b"\n"))
    hasher.update(held)
    return hasher.hexdigest()
