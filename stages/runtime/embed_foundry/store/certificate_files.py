"""Uploads and downloads a release's certificates: files in NAME.certificates/ beside it, which never change."""

import re
from pathlib import Path

from ..certify import files
from ..errors import IntegrityError
from ..output.folder import replace_file
from .store import Store, certificate_prefix

FILE_NAME = re.compile(r"[\w-][\w.-]*\.json")


def upload_certificates(store: Store, digest: str, release: Path) -> int:
    """Write the certificates beside a release that the store lacks; return how many there were."""
    folder, count = files.folder_of(release), 0
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        count += store.compare_and_swap(certificate_prefix(digest) + path.name, path.read_bytes(), None)
    return count


def download_certificates(store: Store, digest: str, release: Path) -> int:
    """Write a release's certificates to their folder beside the release; return how many there are.

    Those of an earlier release of that name are about other bytes, which whoever reads them notices.

    Raises:
        IntegrityError: the store lists a file that would lie outside that folder.
    """
    prefix = certificate_prefix(digest)
    keys = store.list_keys(prefix)
    for key in keys:
        name, stored = key.removeprefix(prefix), store.read(key)
        if not FILE_NAME.fullmatch(name) or stored is None:
            raise IntegrityError(f"{store.address}/{key}: is not a certificate. Remove it from the store.")
        files.folder_of(release).mkdir(exist_ok=True)
        replace_file(files.folder_of(release) / name, stored.data)
    return len(keys)
