"""Which files of a folder count: those that its manifest may list, and neither litter nor links to elsewhere.

Litter is what systems and tools leave beside a folder's own files, by the names below. It is never listed, hashed,
opened or packed, so it cannot change what runs. Any other file that a manifest does not list is refused, hidden ones
too: libraries read some files merely because they are there.

A link counts as the file that it leads to where whoever can write there can also write to the folder: inside the folder
itself (volumes of Kubernetes, git-annex), and in the hub's cache, whose snapshots are links to its blobs. In a clone of
the build, the same holds for DVC's cache.
"""

import os
import re
import shlex
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from .errors import InputError, IntegrityError

# In any folder: files of macOS, Windows, KDE, NFS, FUSE, SMB and Synology.
LITTER = re.compile(
    r"\.DS_Store|\.localized|Icon\r|\.AppleDouble|Thumbs\.db|ehthumbs\.db|desktop\.ini|\.directory"
    r"|\.nfs[0-9a-f]{8,}|\.fuse_hidden[0-9a-f]{8,}|\.smbdelete[0-9a-f]+|@eaDir",
    re.IGNORECASE,
)
# At the top only: a clone's git, the hub client's records, a volume's own folders, Syncthing's, and the versions of a
# volume of Kubernetes.
TOP_LITTER = re.compile(
    r"\.git|\.cache|\.huggingface|lost\+found|\.Spotlight-V100|\.Trashes|\.Trash-[0-9]+|\.fseventsd|\.TemporaryItems"
    r"|\.DocumentRevisions-V100|System Volume Information|\$RECYCLE\.BIN|#recycle|\.snapshots?|\.stfolder|\.stversions"
    r"|\.stignore|\.\.data|\.\.data_tmp|\.\.[0-9]{4}_[0-9_.]+",
    re.IGNORECASE,
)
# macOS keeps what other file systems cannot hold of NAME in ._NAME.
APPLE_DOUBLE = "._"
# Which other files a link may lead to, by their resolved paths.
TRUSTED: list[Callable[[Path], bool]] = []


def list_files(folder: Path) -> list[str]:
    """Return the relative POSIX names of all files that count under a folder, sorted.

    Raises:
        InputError: a folder in it cannot be read.
        IntegrityError: the folder holds a link to elsewhere, a socket, FIFO or device.
    """
    return sorted(_walk(folder, folder, ""))


def _walk(top: Path, folder: Path, prefix: str, *, linked: bool = False) -> Iterator[str]:
    """Yield the names under a folder; `linked` says that a link led here, where no other link to a folder is taken."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror}). Make it readable.") from None
    names = {entry.name for entry in entries}
    for entry in entries:
        if _is_litter(entry.name, names, top=not prefix):
            continue
        path, name = folder / entry.name, prefix + entry.name
        try:
            mode = (_require_trusted(top, path) if entry.is_symlink() else path.lstat()).st_mode
        except FileNotFoundError:  # removed meanwhile: a listed file is missing then
            continue
        if stat.S_ISDIR(mode) and not (linked and entry.is_symlink()):
            yield from _walk(top, path, f"{name}/", linked=linked or entry.is_symlink())
        elif stat.S_ISREG(mode):
            yield name
        else:
            raise IntegrityError(f"{path}: is not a regular file; artifacts hold regular files only. Remove it.")


def _is_litter(name: str, beside: set[str], *, top: bool) -> bool:
    if name.startswith(APPLE_DOUBLE):
        return name.removeprefix(APPLE_DOUBLE) in beside | {"."}
    return bool(LITTER.fullmatch(name) or (top and TOP_LITTER.fullmatch(name)))


def _require_trusted(top: Path, link: Path) -> os.stat_result:
    """Return what a link leads to, if it may be followed."""
    try:
        target = link.resolve(strict=True)
        status = target.stat()
    except (OSError, RuntimeError):  # RuntimeError: links in a circle
        raise IntegrityError(f"{link}: is a link to nothing ({_read_link(link)}). {_describe_dangling(link)}") from None
    if not _is_trusted(top.resolve(), target, is_folder=stat.S_ISDIR(status.st_mode)):
        if is_dvc_object(target):
            raise IntegrityError(
                f"{link}: is not a regular file, but a link to {target}, in a cache of DVC's. Next, in the clone: "
                f"dvc unprotect {shlex.quote(str(top))}"
            )
        raise IntegrityError(
            f"{link}: is not a regular file, but a link to {target}, where others may change it. Remove it, "
            "and put the file itself there."
        )
    return status


def _is_trusted(top: Path, target: Path, *, is_folder: bool) -> bool:
    """Whether a link in the folder `top` may lead to a file, or to a folder; both paths are resolved."""
    if not target.is_relative_to(top):
        return not is_folder and (_is_hub_blob(target) or any(trusts(target) for trusts in TRUSTED))
    # Only a volume of Kubernetes links folders: into the one of its current version, ..2026_11_27_10_13_21.1234.
    return not is_folder or (target != top and target.relative_to(top).parts[0].startswith(".."))


def _is_hub_blob(path: Path) -> bool:
    """Whether a path is TYPE--OWNER--NAME/blobs/DIGEST, as the hub's client lays out its cache."""
    return path.parent.name == "blobs" and "--" in path.parent.parent.name


def is_dvc_object(path: Path) -> bool:
    """Whether a path is files/md5/xx/yyy…, as DVC lays out its cache."""
    return path.parts[-4:-2] == ("files", "md5")


def _read_link(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return "unreadable"


def _describe_dangling(link: Path) -> str:
    if "annex/objects" in _read_link(link):
        return "git-annex has not fetched the file. Next, in that folder: git annex get ."
    if is_dvc_object(Path(_read_link(link))):
        return "DVC's cache has lost the file. Next, in the clone: dvc repro"
    return "Get the release again, or what the link leads to."
