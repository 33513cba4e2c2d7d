"""Reading a folder while another process replaces it: what was read of both is read again."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from .errors import RetryableError

Result = TypeVar("Result")
ATTEMPTS, PAUSE_S = 10, 0.1
# What identifies a file as it is now: path, inode, size, times of the last change of its bytes and of its entry.
FileState = tuple[str, int, int, int, int]


def read_whole(folder: Path, read: Callable[[], Result]) -> Result:
    """Return what `read` does with a folder, once the folder was the same before and after.

    A build, `fetch` and DVC replace a release while others open it. Without this, a reader could take some files of the
    old one and some of the new one, and use bytes that it did not verify.

    Args:
        folder: the folder.
        read: reads it; called again if the folder changed meanwhile. What it raises is raised if nothing changed.

    Raises:
        RetryableError: the folder changed at every attempt.
    """
    for attempt in range(ATTEMPTS):
        time.sleep(PAUSE_S * attempt)
        before = read_state(folder)
        try:
            result = read()
        except Exception:
            if read_state(folder) == before:
                raise
            continue
        if read_state(folder) == before:
            return result
    raise RetryableError(f"{folder}: changes again and again while it is read. Run again when nothing writes to it.")


def read_state(folder: Path) -> list[FileState]:
    """Return the state of every file of a folder that is not hidden: those that a release may use."""
    state = []
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in files if not name.startswith(".")):
            path = Path(root, name)
            try:
                status = path.stat()
            except OSError:
                continue
            state.append((str(path), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return state
