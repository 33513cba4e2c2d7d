"""A bundle as one file: a plain tar whose bytes depend on nothing but the bundle, and its careful opening.

No compression: weights hardly shrink, and compressors' bytes change with their versions. Names come from the bundle's
own facts, order from sorting; no clock, owner, mode or folder of the packing host enters.
"""

import shutil
import tarfile
from dataclasses import replace
from pathlib import Path, PurePosixPath

from . import manifest, signature
from .bundle import Bundle
from .errors import InputError, IntegrityError, RetryableError
from .signer import PROVENANCE, SIGNATURE, Signer

MODE = 0o644


def pack(bundle: Bundle, out: Path | None = None) -> Path:
    """Write a verified bundle, and its signature if there is one, to a tar and return its path.

    Args:
        bundle: the bundle.
        out: the tar; None takes `bundle.name` with .tar in the working directory.

    Raises:
        InputError: the tar cannot be written.
    """
    target = out or Path(f"{bundle.name}.tar")
    beside = signature.folder_of(bundle.folder)
    files = {
        f"{bundle.name}/{name}": bundle.folder / name for name in (*manifest.files_of(bundle.folder), manifest.NAME)
    }
    for name in (SIGNATURE, PROVENANCE):
        if (beside / name).is_file():
            files[f"{bundle.name}{signature.SUFFIX}/{name}"] = beside / name
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
        raise InputError(f"{target}: cannot be written ({error.strerror}). Choose another place with --out.") from None
    finally:
        work.unlink(missing_ok=True)
    return target


def unpack(archive: Path, into: Path, signer: Signer | None = None) -> Bundle:
    """Open an archive into a folder and return the bundle, verified before it appears there.

    Args:
        archive: what `pack` wrote.
        into: the folder that will hold the bundle's folder (and its signature's).
        signer: who must have signed it; None accepts an unsigned bundle.

    Raises:
        InputError: no readable tar, or the bundle's folder exists.
        IntegrityError: a member is not a plain file inside the bundle, or the bundle does not verify.
        RetryableError: too little free disk.
    """
    work = into / f".{archive.name}.partial"
    shutil.rmtree(work, ignore_errors=True)
    try:
        into.mkdir(parents=True, exist_ok=True)
        top = _extract(archive, work)
        found = Bundle.load(work / top, signer)
        for name in (top, f"{top}{signature.SUFFIX}"):
            if (into / name).exists():
                raise InputError(f"{into / name}: exists. Remove it, or choose another folder with --into.")
        # The signature first: a bundle that is there is whole.
        for name in (f"{top}{signature.SUFFIX}", top):
            if (work / name).exists():
                (work / name).rename(into / name)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return replace(found, folder=into / top)


def _extract(archive: Path, work: Path) -> str:
    """Write the members of an archive under `work` and return the bundle's folder name."""
    try:
        with tarfile.open(archive, "r:") as tar:
            members = tar.getmembers()
            top = _checked(archive, members)
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
    except (OSError, tarfile.TarError) as error:
        raise InputError(f"{archive}: cannot be unpacked as a tar ({error}). Get it again.") from None
    return top


def _checked(archive: Path, members: list[tarfile.TarInfo]) -> str:
    """Refuse members that `pack` never writes: links, devices, sparse files, names that leave the bundle, repeats."""
    tops = {PurePosixPath(member.name).parts[0] for member in members if member.name.strip("/.")}
    top = min(tops, default="")
    seen: set[str] = set()
    for member in members:
        path = PurePosixPath(member.name)
        plain = member.isreg() and not member.issparse()
        inside = not path.is_absolute() and ".." not in path.parts and path.as_posix() == member.name
        if not plain or not inside or member.name in seen or path.parts[0] not in (top, f"{top}{signature.SUFFIX}"):
            raise IntegrityError(
                f"{archive}: {member.name!r} is not a plain file of one bundle; nothing was unpacked. Do not use it."
            )
        seen.add(member.name)
    if not seen:
        raise IntegrityError(f"{archive}: is empty. Get it again.")
    return top
