"""A tar as the source of releases: unpacked to a shelf, once."""

import json
import os
import shutil
import tarfile
from pathlib import Path, PurePosixPath

from .. import archive, manifest, signature
from ..errors import InputError
from ..signer import Signer
from .source import Shelf


class TarSupply:
    """Unpacks a tar, once.

    Args:
        tar: the tar; it may be replaced by another one.
        shelf: where the release goes.
        signer: who must have signed it.
    """

    remote = False

    def __init__(self, tar: Path, shelf: Shelf, signer: Signer | None) -> None:
        self._tar, self.shelf, self._signer = tar, shelf, signer
        self._state: tuple[int, int, int] | None = None

    def refresh(self, *, again: bool = False) -> None:
        """Unpack the tar if it changed and its release is not on the shelf; see `archive.unpack` for errors."""
        try:
            status = self._tar.stat()
        except OSError as error:
            raise InputError(f"{self._tar}: cannot be read ({error.strerror}). Name a tar that pack wrote.") from None
        state = (status.st_ino, status.st_size, status.st_mtime_ns)
        if state == self._state and not again:
            return
        digest = read_digest(self._tar)
        folder = self.shelf.releases / digest
        if again or not folder.exists():
            work = self.shelf.releases / f".{digest}.{os.getpid()}"
            try:
                bundle = archive.unpack(self._tar, work, self._signer)
                _move(bundle.folder, self.shelf.releases / bundle.digest)
            finally:
                shutil.rmtree(work, ignore_errors=True)
        self.shelf.put(folder)
        self._state = state


def read_digest(tar: Path) -> str:
    """Return the digest that the manifest in a tar names; nothing of the tar is trusted by it.

    Raises:
        InputError: not a tar that `pack` wrote.
    """
    try:
        with tarfile.open(tar, "r:") as file:
            for member in file:
                if PurePosixPath(member.name).parts[1:] == (manifest.NAME,) and (content := file.extractfile(member)):
                    digest = str(json.load(content)["digest"])
                    if len(digest) == 64 and digest.isalnum():
                        return digest
    except (OSError, tarfile.TarError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{tar}: cannot be read as a tar of a release ({error}). Get it again.") from None
    raise InputError(f"{tar}: holds no {manifest.NAME} of a release. Name a tar that `embed-foundry pack` wrote.")


def _move(folder: Path, target: Path) -> None:
    """Move a release and its signature to a shelf; the signature first, so that a release in place is complete."""
    for part, place in ((signature.folder_of(folder), signature.folder_of(target)), (folder, target)):
        if part.exists():
            shutil.rmtree(place, ignore_errors=True)
            part.rename(place)
