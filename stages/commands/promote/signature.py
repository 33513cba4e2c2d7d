"""A release's signature on its way: files beside a release, in NAME.signature/, which change no byte of it.

The store carries them as they are; who made them is checked by whoever knows the key or the identity.
"""

import re
import shutil
from pathlib import Path

from embed_foundry import IntegrityError, RetryableError, signature
from embed_foundry.signer import Signer

from stages.commands.promote.store import Store, signature_keys
from stages.common.contract.output import atomic_folder

FILE = re.compile(r"[\w-][\w.-]*")


def publish(store: Store, digest: str, release: Path) -> bool:
    """Write a release's signature files; those of an earlier signing are replaced. False if it is unsigned.

    Raises:
        RetryableError: another process publishes another signature of this release right now.
    """
    folder = signature.folder_of(release)
    files = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    for path in files:
        key, data = signature_keys(digest) + path.name, path.read_bytes()
        found = store.read(key)
        if (found is None or found.data != data) and not store.swap(key, data, found.version if found else None):
            raise RetryableError(f"{store.where}/{key}: another process signs this release now. Run again.")
    return bool(files)


def fetch(store: Store, digest: str, release: Path, fetched: Path, signer: Signer | None) -> bool:
    """Put a release's signature beside where it is or will be; False if it is unsigned.

    Args:
        store: where from.
        digest: the release's identity.
        release: where it is or will be.
        fetched: where it is now, verified.
        signer: who must have signed it; None takes any signature, and none.

    Raises:
        IntegrityError: the store lists a file that would lie outside the signature's folder; or the release is unsigned
            or signed by another one.
    """
    folder, prefix = signature.folder_of(release), signature_keys(digest)
    keys = store.keys(prefix)
    if signer is not None and not keys:
        raise IntegrityError(f"{store.where}: release {digest} is unsigned, expected it signed by {signer}. Sign it.")
    if not keys:
        if release.exists():  # what is beside it signs what is replaced now
            shutil.rmtree(folder, ignore_errors=True)
        return False
    with atomic_folder(folder) as work:
        for key in keys:
            name = key.removeprefix(prefix)
            found = store.read(key)
            if not FILE.fullmatch(name) or found is None:
                raise IntegrityError(f"{store.where}/{key}: is no file of a signature. Publish the release again.")
            (work / name).write_bytes(found.data)
        if signer is not None:
            signature.verify(fetched, signer, work)
    return True
