"""Uploads and downloads a release's signature: files in NAME.signature/ beside the release.

The store keeps them as they are; whoever knows the key or the identity checks who signed.
"""

import re
import shutil
from pathlib import Path

from .. import signature
from ..errors import IntegrityError, RetryableError
from ..output.folder import atomic_folder
from ..signer import Signer
from .store import Store, signature_prefix

FILE_NAME = re.compile(r"[\w-][\w.-]*")


def upload_signature(store: Store, digest: str, release: Path) -> bool:
    """Write a release's signature files, replacing those of an earlier signing. False if it is unsigned.

    Raises:
        RetryableError: another process is publishing another signature of this release.
    """
    folder = signature.folder_of(release)
    files = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    for path in files:
        key, data = signature_prefix(digest) + path.name, path.read_bytes()
        stored = store.read(key)
        if stored is not None and stored.data == data:
            continue
        if not store.compare_and_swap(key, data, stored.version if stored else None):
            raise RetryableError(
                f"{store.address}/{key}: another process is publishing a signature of this release. Run again."
            )
    return bool(files)


def download_signature(store: Store, digest: str, release: Path, fetched: Path, signer: Signer | None) -> bool:
    """Write a release's signature to its folder beside the release; False if it is unsigned.

    Args:
        store: where the release is published.
        digest: the release's.
        release: the release's folder, which may not exist yet.
        fetched: where its verified files are now.
        signer: who must have signed it; None accepts any signature, or none.

    Raises:
        IntegrityError: the store lists a file that would lie outside the signature's folder; or the release is
            unsigned, or signed by somebody else.
    """
    folder, prefix = signature.folder_of(release), signature_prefix(digest)
    keys = store.list_keys(prefix)
    if signer is not None and not keys:
        raise IntegrityError(f"{store.address}: release {digest} has no signature, expected one by {signer}. Sign it.")
    if not keys:
        if release.exists():  # its signature belongs to the release that is being replaced
            shutil.rmtree(folder, ignore_errors=True)
        return False
    with atomic_folder(folder) as work:
        for key in keys:
            name = key.removeprefix(prefix)
            stored = store.read(key)
            if not FILE_NAME.fullmatch(name) or stored is None:
                raise IntegrityError(f"{store.address}/{key}: is not a signature file. Publish the release again.")
            (work / name).write_bytes(stored.data)
        if signer is not None:
            signature.verify(fetched, signer, work)
    return True
