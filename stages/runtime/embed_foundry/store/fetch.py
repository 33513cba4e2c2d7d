"""Downloads a release, hashed as it arrives."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from .. import manifest
from ..bundle import Bundle
from ..errors import InputError, IntegrityError
from ..manifest import Manifest
from ..output.folder import atomic_folder
from ..progress import byte_bar
from ..signer import Signer
from .certificate_files import download_certificates
from .channels import resolve_digest
from .releases import load_manifest
from .signature_files import download_signature
from .store import ProgressCallback, Store, object_key


def fetch(store: Store, release: str, out: Path, *, signer: Signer | None = None, dry_run: bool = False) -> Manifest:
    """Download a release and return its manifest; `out` appears, or is replaced, once every byte was checked.

    Its signature and certificates, if it has any, are written to folders beside `out`: see `embed_foundry.signature`
    and `embed_foundry.certify`.

    Args:
        store: where the release is published.
        release: a release's digest, or a channel's name.
        out: the folder.
        signer: who must have signed it; None also accepts an unsigned release.
        dry_run: only look up what would be downloaded.

    Raises:
        InputError: there is no such release; or `out` exists and is not a release.
        IntegrityError: the bytes differ from the manifest, or are not signed by `signer`.
        RetryableError: the store is unavailable, the disk too small, or another process writes `out`.
    """
    digest = resolve_digest(store, release)
    manifest_bytes, body = load_manifest(store, digest)
    if out.exists() and not (out / manifest.NAME).is_file():
        raise InputError(f"{out}: exists and is not a release; fetch would replace it. Name another folder.")
    if dry_run:
        return body
    if out.exists() and _holds_release(out, digest):
        download_signature(store, digest, out, out, signer)
        download_certificates(store, digest, out)
        return body
    with atomic_folder(out, body.size) as work, byte_bar("fetch", body.size) as bar:
        for name, entry in sorted(body.files.items()):
            path = work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                download_object(store, entry.sha256, entry.size, file.write, bar.update)
        (work / manifest.NAME).write_bytes(manifest_bytes)
        Bundle.load(work)
        # Last, so that until here a release fetched before keeps its own signature.
        download_signature(store, digest, out, work, signer)
    download_certificates(store, digest, out)
    return body


def _holds_release(folder: Path, digest: str) -> bool:
    try:
        return manifest.verify(folder).digest == digest
    except IntegrityError:
        return False


def download_object(
    store: Store, sha256: str, size: int | None, write: Callable[[bytes], object], on_progress: ProgressCallback
) -> None:
    """Pass an object's bytes to `write` and check them; no more than `size` bytes are accepted."""
    hasher, count = hashlib.sha256(), 0
    for block in store.stream(object_key(sha256)):
        count += len(block)
        if size is not None and count > size:
            break
        hasher.update(block)
        write(block)
        on_progress(len(block))
    if hasher.hexdigest() != sha256 or (size is not None and count != size):
        raise IntegrityError(
            f"{store.address}/{object_key(sha256)}: came back as {count} bytes with sha256 {hasher.hexdigest()}. "
            "No channel was moved. Run again; if it persists, remove that object and publish again."
        )
