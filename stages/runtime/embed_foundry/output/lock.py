"""A lock that the kernel releases however its holder dies; its file's text names the holder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import RetryableError


@contextmanager
def hold(path: Path, subject: object, doing: str = "writing it") -> Iterator[None]:
    """Hold an flock during the block.

    Args:
        path: the lock's file; it stays.
        subject: what is locked, as the message names it.
        doing: what the holder does with it.

    Raises:
        RetryableError: another process holds it; the message says which.
    """
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise RetryableError(
                f"{subject}: process {file.read().strip() or 'unknown'} is {doing}. "
                "Wait until it ends, or end it, then run the same command again."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
