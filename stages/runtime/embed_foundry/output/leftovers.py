"""What killed stages left: hidden folders of gigabytes, and outputs between the two renames of a replacement.

The next run of the same stage clears them. If DVC restores that stage's output from its cache, no stage runs: so every
stage, `make` and `embed-foundry repair` clear those of all stages.
"""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ..errors import RetryableError
from . import lock

# Where outputs and intermediate results stand.
_PATTERNS = (".*.partial", "*/.*.partial", ".cache/**/.*.partial")


class WorkPaths(NamedTuple):
    """The hidden neighbours of an output.

    Attributes:
        work: the folder that becomes the output.
        previous: the output that is being replaced.
        lock: the file that its writer locks.
    """

    work: Path
    previous: Path
    lock: Path


def name_work_paths(out: Path) -> WorkPaths:
    """Return the hidden neighbours of an output."""
    return WorkPaths(
        out.with_name(f".{out.name}.partial"),
        out.with_name(f".{out.name}.old.partial"),
        out.with_name(f".{out.name}.lock"),
    )


def clear(out: Path) -> None:
    """Remove what a killed run left of writing `out`, whose lock the caller holds, and put back what it moved away."""
    work, previous, _ = name_work_paths(out)
    if previous.exists() and not out.exists():
        previous.rename(out)
    shutil.rmtree(previous, ignore_errors=True)
    shutil.rmtree(work, ignore_errors=True)


def sweep(root: Path) -> list[Path]:
    """Clear every output that nobody is writing, and return the folders that were removed.

    Args:
        root: the repository root.
    """
    removed = []
    for out, partial in sorted(_find_partial_folders(root)):
        with suppress(RetryableError, OSError), lock.hold(name_work_paths(out).lock, out):
            clear(out)
            removed.append(partial)
    return removed


def _find_partial_folders(root: Path) -> Iterator[tuple[Path, Path]]:
    """Yield outputs with their hidden folders; without a lock's file beside it, a folder is another program's."""
    for pattern in _PATTERNS:
        for partial in root.glob(pattern):
            out = partial.with_name(partial.name[1:].removesuffix(".partial").removesuffix(".old"))
            if partial.is_dir() and name_work_paths(out).lock.is_file():
                yield out, partial
