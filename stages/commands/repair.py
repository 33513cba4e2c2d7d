"""repair: remove files whose bytes are wrong from outputs and DVC's cache, so that `dvc repro` makes them again.

DVC itself trusts its cache: it checks out a flipped bit silently, and even a forced re-run keeps the bad object. What
is intact stays, however DVC links it: a file is hashed before it is removed.

Not a DVC stage. In: DVC's cache, which may be a shared one; the stages' outputs. Out: fewer files.
Fails: 2 outside a repository, or a file cannot be read or removed, 75 DVC is running.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from embed_foundry import InputError, IntegrityError, RetryableError, manifest
from embed_foundry.file_check import require_bytes
from embed_foundry.output.leftovers import sweep
from tqdm import tqdm

from stages.common.contract.dvc_cache import is_cached

DvcRepo = Any  # dvc has no types
# DVC names an object xx/yyy…, by the MD5 of its bytes. Other names are of files that it is writing.
_OBJECT = re.compile(r"[0-9a-f]{30}(\.dir)?")


def run() -> list[str]:
    """Hash DVC's cache and all stage outputs, remove what is wrong, and return a line about each removed file.

    Raises:
        InputError: this is not a DVC repository; DVC cannot read it; a file cannot be read or removed.
        RetryableError: DVC is running in this repository.
    """
    with _locked_repository() as repository:
        root = Path(repository.root_dir)
        lines = [f"{path.relative_to(root)} (left by a killed stage)" for path in sweep(root)]
        for path in _find_corrupt_objects(Path(repository.cache.local.path)):
            lines.append(_remove(path, root))
        for path in _find_corrupt_outputs(Path(output.fs_path) for output in repository.index.outs):
            lines.append(_remove(path, root))
        return lines


@contextmanager
def _locked_repository() -> Iterator[DvcRepo]:
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.lock import LockError
    from dvc.repo import Repo
    from dvc.scm import SCMError

    try:
        opened = Repo()
    except NotDvcRepoError:
        raise InputError(f"{Path.cwd()}: not a DVC repository; run this in the repository root.") from None
    except (DvcException, SCMError) as error:
        raise InputError(f"{Path.cwd()}: DVC cannot open it ({error}).") from None
    with opened as repository:
        try:
            repository.lock.lock()
        except LockError:
            raise RetryableError(
                "DVC is running in this repository. Wait until it ends, then run repair again."
            ) from None
        try:
            yield repository
        except DvcException as error:
            raise InputError(
                f"{Path.cwd()}: DVC cannot read its files ({error}). Correct them, then run again."
            ) from None
        finally:
            repository.lock.unlock()


def _find_corrupt_objects(folder: Path) -> Iterator[Path]:
    """Yield the objects of a cache whose bytes are not those of their name."""
    from dvc_data.hashfile.hash import fobj_md5

    objects = sorted(path for path in folder.glob("[0-9a-f][0-9a-f]/*") if _OBJECT.fullmatch(path.name))
    for path in tqdm(objects, desc="cache", unit="object", disable=None):
        try:
            with path.open("rb") as file:
                intact = fobj_md5(file) == path.parent.name + path.name.removesuffix(".dir")
        except FileNotFoundError:  # another repository that shares the cache removed it
            continue
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}). Make it readable, then run again.") from None
        if not intact:
            yield path


def _find_corrupt_outputs(outputs: Iterator[Path]) -> Iterator[Path]:
    """Yield the files of outputs that differ from the output's manifest, or the manifest, if that itself is changed."""
    for folder in outputs:
        path = folder / manifest.NAME
        if path.is_symlink() or path.exists():
            try:
                files = manifest.read(folder).files
            except IntegrityError:
                yield path
                continue
            for name, entry in files.items():
                if not _is_intact(folder / name, entry):
                    yield folder / name


def _is_intact(path: Path, entry: manifest.FileEntry) -> bool:
    """Return whether a file has its manifest's bytes, or is absent; links lead into DVC's cache only."""
    if path.is_symlink() and not (path.exists() and is_cached(path.resolve())):
        return False
    try:
        require_bytes(path, entry.sha256, entry.size, "")
    except IntegrityError:
        return not path.exists()
    return True


def _remove(path: Path, root: Path) -> str:
    """Remove a file, but never what a link leads to, and return a line about it."""
    shown = str(path.relative_to(root) if path.is_relative_to(root) else path)
    if path.is_symlink():
        shown += f" (a link; {path.readlink()} stays)" if path.exists() else f" (a link to nothing, {path.readlink()})"
    try:
        path.unlink()
    except OSError as error:
        raise InputError(f"{path}: is corrupt, but cannot be removed ({error.strerror}). Remove it yourself.") from None
    return shown
