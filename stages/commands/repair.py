"""repair: remove every output and DVC cache object whose bytes are wrong, so that `dvc repro` builds them anew.

DVC itself trusts its cache: a flipped bit is checked out silently, and even a forced re-run keeps the bad object.
Not a DVC stage. In: .dvc/cache, the stages' outputs. Out: fewer files.
Fails: 2 outside a repository, 75 DVC is running.
"""

from pathlib import Path

from embed_foundry import InputError, IntegrityError, RetryableError, manifest
from tqdm import tqdm


def run() -> list[str]:
    """Re-hash the local DVC cache and verify all stage outputs; delete what is wrong and return the deleted paths.

    Raises:
        InputError: this is no DVC repository.
        RetryableError: DVC works in this repository right now.
    """
    from dvc.exceptions import NotDvcRepoError
    from dvc.lock import LockError
    from dvc.repo import Repo
    from dvc_data.hashfile.hash import fobj_md5

    removed: list[str] = []
    try:
        found = Repo()
    except NotDvcRepoError:
        raise InputError(f"{Path.cwd()}: no DVC repository; run this in the repository root.") from None
    with found as repo:
        try:
            repo.lock.lock()
        except LockError:
            raise RetryableError(
                "DVC is running in this repository. Wait until it ends, then run repair again."
            ) from None
        try:
            odb = repo.cache.local
            for oid in tqdm(sorted(odb.all()), desc="cache", unit="object", disable=None):
                path = Path(odb.oid_to_path(oid))
                with path.open("rb") as file:
                    if fobj_md5(file) != oid.removesuffix(".dir"):
                        odb.delete(oid)
                        removed.append(str(path.relative_to(repo.root_dir)))
            for out in repo.index.outs:
                folder = Path(out.fs_path)
                if (folder / manifest.NAME).exists() and not _intact(folder):
                    out.remove()
                    removed.append(str(folder.relative_to(repo.root_dir)))
        finally:
            repo.lock.unlock()
    return removed


def _intact(folder: Path) -> bool:
    try:
        manifest.verify(folder)
    except IntegrityError:
        return False
    return True
