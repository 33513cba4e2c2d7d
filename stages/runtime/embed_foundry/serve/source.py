"""What is served: a release folder or a tar; and when another release is there.

A folder is the user's own and is watched as it is. A tar is unpacked to a shelf: a folder of this host that outlives
the process, so that a start needs no other unpacking.
"""

import hashlib
import json
import os
import shutil
import tarfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

from .. import archive, manifest, signature
from ..bundle import Bundle
from ..encoders.encoder import Encoder
from ..errors import FoundryError, InputError, IntegrityError, RetryableError
from ..replaced import FileState, read_state, read_whole
from ..selftest import SelfTest
from ..signer import Signer
from ..system_errors import retryable_error

RELEASES, CURRENT, PROVEN, FAULT = "releases", "current", "proven", "fault.txt"


@dataclass(frozen=True)
class Source:
    """What `serve` was given.

    Attributes:
        path: a release folder, or a tar that `pack` wrote.
        signer: who must have signed every release; None checks no signature.
    """

    path: Path
    signer: Signer | None = None


@dataclass(frozen=True)
class UnchangedBundle(Bundle):
    """A verified release that opens variants only while its files are those that were verified.

    A service opens variants hours after it verified them, and a build or a fetch may have replaced the folder by then.

    Attributes:
        state: of every file when the release was verified.
    """

    state: tuple[FileState, ...] = field(default=(), repr=False)

    @property
    def unchanged(self) -> bool:
        """Whether the folder still holds the files that were verified."""
        return tuple(read_state(self.folder)) == self.state

    def open_tested(self, name: str, threads: int | None = None) -> tuple[Encoder, SelfTest]:
        """Open a variant as `Bundle.open_tested` does.

        Raises:
            IntegrityError: also if the folder was replaced or changed since it was verified.
        """
        self._require_unchanged()
        opened = super().open_tested(name, threads)
        self._require_unchanged()
        return opened

    def _require_unchanged(self) -> None:
        if not self.unchanged:
            raise IntegrityError(
                f"{self.folder}: was changed since it was verified, so nothing more is opened from it. The service "
                "looks at it again within seconds."
            )


def load(folder: Path, signer: Signer | None) -> UnchangedBundle:
    """Return a verified release that notices when its files change; see `Bundle.load` for errors.

    Links are resolved, so that a link that moves on leaves this release as it is.
    """
    real = folder.resolve()

    def read() -> UnchangedBundle:
        state = tuple(read_state(real))
        bundle = Bundle.load(real, signer)
        return UnchangedBundle(bundle.folder, bundle.contract, bundle.digest, bundle.provenance, state)

    return read_whole(real, read)


class Watch:
    """Says when a folder, or a link to one, holds another release.

    Args:
        current: the folder or the link; it may not exist yet.
        signer: who must have signed the release.
        proven: a link to the last release that answered here; None where there is no shelf.
        fault: a file with the reason why no newer release came; None where there is no shelf.
    """

    def __init__(
        self, current: Path, signer: Signer | None = None, proven: Path | None = None, fault: Path | None = None
    ) -> None:
        self.current, self.signer, self.proven, self._fault = current, signer, proven, fault
        self._state: tuple[Path, list[FileState]] | None = None

    def look(self) -> UnchangedBundle | None:
        """Return the release if it is another one than at the last look, or was written again; else None.

        A release that cannot be used is reported once, and again when its files change.

        Raises:
            FoundryError: see `Bundle.load`.
        """
        if self.proven and not self.current.exists():
            return None  # nothing was fetched yet
        state = (self.current.resolve(), read_state(self.current.resolve()))
        if state == self._state:
            return None
        try:
            bundle = load(self.current, self.signer)
        except RetryableError:
            raise
        except FoundryError:
            self._state = state
            raise
        self._state = (bundle.folder, list(bundle.state))
        return bundle

    def forget(self) -> None:
        """Make the next look return the release whether or not it is another one."""
        self._state = None

    def load_proven(self) -> UnchangedBundle | None:
        """Return the last release that answered here; None if there is none, or it is no longer whole."""
        if not self.proven or not self.proven.exists():
            return None
        with suppress(FoundryError):
            return load(self.proven, self.signer)
        return None

    def mark_proven(self, bundle: Bundle) -> None:
        """Remember a release that answers; a start takes it if a newer one turns out to be bad."""
        if self.proven and bundle.folder.parent == self.proven.parent.resolve() / RELEASES:
            _link(self.proven, bundle.folder)

    def read_fault(self) -> str:
        """Return why no newer release came; "" if nothing is wrong."""
        try:
            return self._fault.read_text(encoding="utf-8").strip() if self._fault else ""
        except OSError:
            return ""


class Supply(Protocol):
    """Brings releases to a shelf."""

    @property
    def shelf(self) -> "Shelf":
        """Return the shelf."""

    def refresh(self) -> None:
        """Bring the newest release to the shelf if it is not there.

        Raises:
            FoundryError: it cannot be had, or is not sound.
        """


class Shelf:
    """Releases on this host, by digest, and links to the newest one and to the last one that answered.

    Args:
        state: the service's folder.
        source: what is served; each has a shelf of its own.

    Raises:
        InputError: the folder cannot be written.
    """

    def __init__(self, state: Path, source: str) -> None:
        self.root = state.absolute() / hashlib.sha256(source.encode()).hexdigest()[:16]
        self.releases = self.root / RELEASES
        self.current, self.proven, self.fault = self.root / CURRENT, self.root / PROVEN, self.root / FAULT
        try:
            self.releases.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{self.releases}: cannot be written ({error.strerror}). Name a folder that can by --state."
            ) from None

    def watch(self, signer: Signer | None) -> Watch:
        """Return what notices another release on this shelf."""
        return Watch(self.current, signer, self.proven, self.fault)

    def put(self, folder: Path) -> None:
        """Make a release of this shelf the newest one, and remove those that are neither newest nor proven."""
        _link(self.current, folder)
        kept = {link.resolve().name for link in (self.current, self.proven)}
        for old in self.releases.iterdir():
            if old.name.removesuffix(signature.folder_name("")) not in kept and not old.name.startswith("."):
                shutil.rmtree(old, ignore_errors=True)

    def write_fault(self, fault: str) -> None:
        """Write down why no newer release came; "" takes it back."""
        if fault:
            self.fault.write_text(fault, encoding="utf-8")
        else:
            self.fault.unlink(missing_ok=True)


class TarSupply:
    """Unpacks a tar, once.

    Args:
        tar: the tar; it may be replaced by another one.
        shelf: where the release goes.
        signer: who must have signed it.
    """

    def __init__(self, tar: Path, shelf: Shelf, signer: Signer | None) -> None:
        self._tar, self.shelf, self._signer = tar, shelf, signer
        self._state: tuple[int, int, int] | None = None

    def refresh(self) -> None:
        """Unpack the tar if it changed and its release is not on the shelf; see `archive.unpack` for errors."""
        try:
            status = self._tar.stat()
        except OSError as error:
            raise InputError(f"{self._tar}: cannot be read ({error.strerror}). Name a tar that pack wrote.") from None
        state = (status.st_ino, status.st_size, status.st_mtime_ns)
        if state == self._state:
            return
        digest = read_digest(self._tar)
        folder = self.shelf.releases / digest
        if not folder.exists():
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


def _link(link: Path, folder: Path) -> None:
    """Make a link point at a folder beside it, at once for every reader.

    Raises:
        RetryableError: the disk is full.
        InputError: the folder cannot be written.
    """
    work = link.with_name(f".{link.name}.{os.getpid()}")
    try:
        work.unlink(missing_ok=True)
        work.symlink_to(Path(RELEASES) / folder.name)
        work.replace(link)
    except OSError as error:
        raise retryable_error(error, link) or InputError(
            f"{link}: cannot be written ({error.strerror}). Name another folder by --state."
        ) from None


def open_source(source: Source, state: Path) -> tuple[Watch, Supply | None]:
    """Return what notices releases of a source, and what brings them to this host; None where nothing must.

    Raises:
        InputError: the state folder cannot be written.
    """
    if not source.path.is_file():
        return Watch(source.path, source.signer), None
    shelf = Shelf(state, str(source.path.absolute()))
    return shelf.watch(source.signer), TarSupply(source.path, shelf, source.signer)
