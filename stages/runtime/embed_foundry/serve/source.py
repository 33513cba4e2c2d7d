"""What is served: a release folder, a tar, a channel; and when another release is there.

A folder is the user's own and is watched as it is. A tar is unpacked, and a channel's release fetched, to a shelf: a
folder of this host that outlives the process, so that a start needs neither again.
"""

import hashlib
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from .. import signature
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
        path: a release folder, or a tar that `pack` wrote; None where a channel is followed.
        signer: who must have signed every release; None checks no signature.
    """

    path: Path | None
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

    def open_tested(self, name: str, threads: int | None = None, calls: int = 1) -> tuple[Encoder, SelfTest]:
        """Open a variant as `Bundle.open_tested` does.

        Raises:
            IntegrityError: also if the folder was replaced or changed since it was verified.
        """
        self._require_unchanged()
        opened = super().open_tested(name, threads, calls)
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

    def has_changed(self) -> bool:
        """Return whether the next look would find something else than the last one did."""
        return (self.current.resolve(), read_state(self.current.resolve())) != self._state

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
    """Brings releases to a shelf.

    Attributes:
        remote: whether others may keep it from bringing one: a start then takes what is on the shelf already.
    """

    remote: bool

    @property
    def shelf(self) -> "Shelf":
        """Return the shelf."""

    def refresh(self, *, again: bool = False) -> None:
        """Bring the newest release to the shelf if it is not there.

        Args:
            again: bring it even if it is there, for it turned out to be damaged.

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
