"""A bundle as one file: a plain tar whose bytes depend on nothing but the bundle, and how to unpack it safely.

No compression: weights hardly shrink, and a compressor's output changes with its version. Names are the bundle's own,
in sorted order; no time, owner, mode or folder of the packing host enters.
"""

import contextlib
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path, PurePosixPath

from . import manifest, signature
from .bundle import Bundle
from .contract import NAME
from .errors import InputError, IntegrityError, RetryableError
from .signer import PROVENANCE, SIGNATURE, Signer
from .system_errors import retryable_error

MODE = 0o644  # of every file in a tar


def pack(bundle: Bundle, out: Path | None = None) -> Path:
    """Write a verified bundle, and its signature if there is one, to a tar and return its path.

    Args:
        bundle: the bundle.
        out: the tar; None takes `bundle.name` with .tar in the working directory.

    Raises:
        InputError: the tar cannot be written.
        RetryableError: too little free disk.
    """
    target = out or Path(f"{bundle.name}.tar")
    signature_folder = signature.folder_of(bundle.folder)
    names = (*manifest.read(bundle.folder).files, manifest.NAME)  # litter in the folder is no part of the bundle
    files = {f"{bundle.name}/{name}": bundle.folder / name for name in names}
    for name in (SIGNATURE, PROVENANCE):
        if (signature_folder / name).is_file():
            files[f"{signature.folder_name(bundle.name)}/{name}"] = signature_folder / name
    work = target.with_name(f".{target.name}.partial")
    try:
        with tarfile.open(work, "w", format=tarfile.PAX_FORMAT) as tar:
            for name, path in sorted(files.items()):
                member = tarfile.TarInfo(name)
                member.size, member.mode = path.stat().st_size, MODE
                with path.open("rb") as file:
                    tar.addfile(member, file)
        work.rename(target)
    except OSError as error:
        raise retryable_error(error) or InputError(
            f"{target}: cannot be written ({error.strerror}). Choose another place with --out."
        ) from None
    finally:
        with contextlib.suppress(OSError):  # a folder that cannot be written has none
            work.unlink(missing_ok=True)
    return target


def unpack(archive: Path, into: Path, signer: Signer | None = None) -> Bundle:
    """Unpack an archive into a folder and return the bundle, which is verified before it appears there.

    Args:
        archive: what `pack` wrote.
        into: the folder that will hold the bundle's folder, and its signature's.
        signer: who must have signed it; None checks no signature.

    Raises:
        InputError: not a readable tar, or the bundle's folder exists or cannot be written.
        IntegrityError: a member is not a plain file inside the bundle, or the bundle does not verify.
        RetryableError: too little free disk.
    """
    work = into / f".{archive.name}.partial"
    shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir(parents=True)
    except OSError as error:
        raise retryable_error(error) or InputError(
            f"{into}: cannot be written ({error.strerror}). Choose another folder with --into."
        ) from None
    try:
        unpacked = _extract(archive, work)
        bundle = Bundle.load(unpacked, signer)
        # The signature is moved first, so that a bundle that is in place is complete.
        folders = (signature.folder_of(unpacked), unpacked)
        for folder in folders:
            if (into / folder.name).exists():
                raise InputError(f"{into / folder.name}: exists. Remove it, or choose another folder with --into.")
        for folder in folders:
            if folder.exists():
                folder.rename(into / folder.name)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return replace(bundle, folder=into / unpacked.name)


def _extract(archive: Path, work: Path) -> Path:
    """Write the members of an archive under `work` and return the bundle's folder."""
    try:
        with tarfile.open(archive, "r:") as tar:
            members = tar.getmembers()
            bundle = _require_bundle(archive, members)
            needed, free = sum(member.size for member in members), shutil.disk_usage(work.parent).free
            if needed > free:
                raise RetryableError(
                    f"{work.parent}: needs {needed / 1e6:.0f} MB of free disk, has {free / 1e6:.0f} MB. Free some."
                )
            for member in members:
                path = work / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                source = tar.extractfile(member)
                if source is None:
                    raise IntegrityError(f"{archive}: {member.name} has no content. Get the archive again.")
                with source, path.open("xb") as file:
                    shutil.copyfileobj(source, file)
    except (OSError, tarfile.TarError, ValueError, OverflowError) as error:
        raise retryable_error(error) or InputError(
            f"{archive}: cannot be unpacked as a tar ({error}). Get it again."
        ) from None
    return work / bundle


def _require_bundle(archive: Path, members: list[tarfile.TarInfo]) -> str:
    """Return the name of the bundle's folder; refuse members that `pack` never writes.

    These are links, devices, sparse files, names outside the bundle and its signature, and repeated names.
    """
    if not members:
        raise IntegrityError(f"{archive}: is empty. Get it again.")
    # Before the bundle's folder is known, so that a name that leaves it cannot stand for it.
    for member in members:
        if not member.isreg() or member.issparse() or not _is_inside(member.name):
            raise _refuse(archive, member)
    folders = [PurePosixPath(member.name).parts[0] for member in members]
    described = [folder for folder, member in zip(folders, members, strict=True) if member.name == f"{folder}/{NAME}"]
    bundle = min(described or folders)
    names: set[str] = set()
    for folder, member in zip(folders, members, strict=True):
        if folder not in (bundle, signature.folder_name(bundle)) or member.name in names:
            raise _refuse(archive, member)
        names.add(member.name)
    return bundle


def _is_inside(name: str) -> bool:
    """Whether a member's name is a file in a folder, as `pack` writes names: no `..`, no `.`, not absolute."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and path.as_posix() == name and len(path.parts) > 1


def _refuse(archive: Path, member: tarfile.TarInfo) -> IntegrityError:
    return IntegrityError(
        f"{archive}: {member.name!r} is not a plain file of one bundle; nothing was unpacked. Do not use it."
    )
