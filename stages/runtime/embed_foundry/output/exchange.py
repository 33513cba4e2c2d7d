"""Exchanges two folders in one step, so that whoever opens one by its name never finds it absent."""

import ctypes
import os
from pathlib import Path

# From linux/fcntl.h and linux/fs.h.
AT_FDCWD, RENAME_EXCHANGE = -100, 2


def exchange(first: Path, second: Path) -> bool:
    """Exchange what two paths name; False if that failed and nothing was changed.

    Kernels, C libraries, sandboxes and file systems that cannot do it answer in many ways; two renames, which the
    caller does instead, then say what is really wrong.

    Args:
        first: a file or folder.
        second: another one, on the same file system.
    """
    rename = getattr(ctypes.CDLL(None), "renameat2", None)  # Linux, glibc since 2.28
    return (
        rename is not None and rename(AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second), RENAME_EXCHANGE) == 0
    )
