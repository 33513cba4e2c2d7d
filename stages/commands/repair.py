"""repair: remove every output and DVC cache object whose bytes are wrong, so that `dvc repro` builds them again.

DVC itself trusts its cache: it checks out a flipped bit silently, and even a forced re-run keeps the bad object.
Not a DVC stage. In: .dvc/cache, the stages' outputs. Out: fewer files.
Fails: 2 outside a repository, 75 DVC is running.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from embed_foundry import InputError, IntegrityError, RetryableError, manifest
from tqdm import tqdm

DvcRepo = Any  # dvc has no types


def run() -> list[str]:
    """Hash the local DVC cache and verify all stage outputs; delete what is wrong and return the deleted paths.

    Raises:
        InputError: this is not a DVC repository.
        RetryableError: DVC is running in this repository.
    """
    with _locked_repository() as repository:
        removed = [*_remove_corrupt_objects(repository), *_remove_corrupt_outputs(repository)]
        return [str(path.relative_to(repository.root_dir)) for path in removed]


@contextmanager
def _locked_repository() -> Iterator[DvcRepo]:
    from dvc.exceptions import NotDvcRepoError
    from dvc.lock import LockError
    from dvc.repo import Repo

    try:
        opened = Repo()
    except NotDvcRepoError:
        raise InputError(f"{Path.cwd()}: not a DVC repository; run this in the repository root.") from None
    with opened as repository:
        try:
            repository.lock.lock()
        except LockError:
            raise RetryableError(
                "DVC is running in this repository. Wait until it ends, then run repair again."
            ) from None
        try:
            yield repository
        finally:
            repository.lock.unlock()


def _remove_corrupt_objects(repository: DvcRepo) -> Iterator[Path]:
    from dvc_data.hashfile.hash import fobj_md5

    cache = repository.cache.local
    for md5 in tqdm(sorted(cache.all()), desc="cache", unit="object", disable=None):
        path = Path(cache.oid_to_path(md5))
        with path.open("rb") as file:
            intact = fobj_md5(file) == md5.removesuffix(".dir")
        if not intact:
            cache.delete(md5)
            yield path


def _remove_corrupt_outputs(repository: DvcRepo) -> Iterator[Path]:
    for output in repository.index.outs:
        folder = Path(output.fs_path)
        if (folder / manifest.NAME).exists() and not _is_intact(folder):
            output.remove()
            yield folder


def _is_intact(folder: Path) -> bool:
    try:
        manifest.verify(folder)
    except IntegrityError:
        return False
    return True
