"""DVC's cache: where it is, and that links into it count as files.

With `dvc config cache.type symlink`, DVC moves an output's files into its cache and leaves links in their place.
"""

import functools
from pathlib import Path

from embed_foundry import listing


def trust_links() -> None:
    """Make every check of a folder in this process accept links into this repository's cache."""
    if is_cached not in listing.TRUSTED:
        listing.TRUSTED.append(is_cached)


def is_cached(path: Path) -> bool:
    """Return whether a resolved path is an object of this repository's cache, which may be a shared one."""
    if not listing.is_dvc_object(path):  # known without loading DVC
        return False
    cache = find_cache()
    return cache is not None and path.is_relative_to(cache)


@functools.cache
def find_cache() -> Path | None:
    """Return the resolved folder of the cache that DVC uses here; None outside a DVC repository."""
    from dvc.config import Config
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    try:
        folder = Path(Repo.find_dvc_dir())
    except NotDvcRepoError:
        return None
    configured = Config(folder)["cache"].get("dir")
    return Path(configured or folder / "cache").resolve()
