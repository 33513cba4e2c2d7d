"""Intermediate results that several conversions need, each made once: the exported graph, the base model's vectors.

DVC runs every conversion in a process of its own. Without this cache each would export the same graph (a minute for
EmbeddingGemma) and run the same base model again.
"""

import fcntl
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from embed_foundry import IntegrityError, manifest

from stages.common.contract.output import library_versions, stage_output

Make = Callable[[Path], object]


def load_or_make(
    cache: Path,
    name: str,
    depends_on: Mapping[str, object],
    *,
    code: Sequence[Path],
    libraries: Sequence[str],
    make: Make,
) -> Path:
    """Return the folder of an intermediate result; it is made if the cache has none, or not as it was written.

    Args:
        cache: a folder, safe to delete. If another process makes the same result, this one waits for it.
        name: what the result is; the first part of the folder's name.
        depends_on: everything that the result is made of, as JSON values.
        code: the modules, or folders of modules, that make the result.
        libraries: distributions whose versions shape it.
        make: writes the result into an empty folder.

    Raises:
        RetryableError: the disk is full.
    """
    modules = [path for part in code for path in (sorted(part.glob("*.py")) if part.is_dir() else [part])]
    key = {
        "depends_on": depends_on,
        "code": [manifest.sha256(path) for path in modules],
        "libraries": library_versions(libraries),
    }
    folder = cache / f"{name}-{hashlib.sha256(manifest.canonical(key)).hexdigest()[:32]}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f".{folder.name}.making.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with suppress(IntegrityError):
            manifest.verify(folder)
            return folder
        with stage_output(folder, stage=f"convert: {name}", parameters=key, inputs={}) as work:
            make(work)
        return folder
