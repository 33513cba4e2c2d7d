"""Opens a release however a user names it: a folder, a tar, a digest, a channel, a git revision."""

import argparse
import subprocess
from pathlib import Path

from .. import archive
from ..bundle import Bundle
from ..errors import InputError, RetryableError, one_line
from ..signer import Signer
from ..store.commands import open_named_store
from ..store.fetch import fetch
from ..store.store import DIGEST, is_channel_name

# Where a build's release is in its repository.
RELEASE = "release"


def open_release(name: str, scratch: Path, store: argparse.Namespace, signer: Signer | None = None) -> Bundle:
    """Return the verified release of a name: what is nearest first, then what must be fetched.

    Args:
        name: a folder, a tar, a digest or a channel in the store, or a git revision of this clone, whose release DVC
            has.
        scratch: an empty folder, for what is unpacked or fetched.
        store: the options that name a store.
        signer: who must have signed the release.

    Raises:
        InputError: there is nothing of this name.
        IntegrityError: it is corrupt, or not signed by `signer`.
        RetryableError: the store is unavailable, or the disk too small.
    """
    path = Path(name)
    if path.is_dir():
        return Bundle.load(path, signer)
    if path.is_file():
        return archive.unpack(path, scratch, signer)
    digest = DIGEST.fullmatch(name) is not None
    if not digest and is_revision(name):
        return Bundle.load(_check_out(name, scratch / RELEASE), signer)
    if not digest and not is_channel_name(name):
        raise InputError(
            f"{name}: is no folder, tar, digest, channel or git revision. Name a release, such as release/ or stable."
        )
    fetch(open_named_store(store), name, scratch / RELEASE, signer=signer)
    return Bundle.load(scratch / RELEASE)


def is_revision(name: str) -> bool:
    """Return whether a name is a git revision of the clone around the working directory."""
    if name.startswith("-"):
        return False
    try:
        command = ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:  # git is not installed
        return False


def _check_out(revision: str, folder: Path) -> Path:
    """Copy the release that DVC has of a revision, from its cache or remote."""
    try:
        from dvc.api import DVCFileSystem
    except ImportError:
        raise InputError(
            f"{revision}: reading a git revision needs DVC. Run this in the build's environment, or name a folder."
        ) from None
    try:
        DVCFileSystem(".", rev=revision).get(RELEASE, str(folder), recursive=True)
    except Exception as error:  # DVC, its file systems and git have errors of their own
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise RetryableError(f"{revision}: its release cannot be copied ({one_line(error)}). Try again.") from None
        raise InputError(
            f"{revision}: DVC has no release of this revision ({one_line(error)}). Build it there, or `dvc pull`."
        ) from None
    return folder
