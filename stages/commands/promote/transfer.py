"""publish and fetch: a release's bytes to a store and back, hashed at both ends."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from embed_foundry import Bundle, InputError, IntegrityError, RemoteError, manifest, signature
from embed_foundry.manifest import Manifest
from embed_foundry.signer import Signer

from stages.commands.promote.gate_binding import require_passing_verdict
from stages.commands.promote.moves import resolve_digest
from stages.commands.promote.releases import load_manifest
from stages.commands.promote.signature_files import download_signature, upload_signature
from stages.commands.promote.store import ProgressCallback, Store, manifest_key, object_key
from stages.common.contract.output import atomic_folder
from stages.common.contract.progress import byte_bar


@dataclass(frozen=True)
class PublishResult:
    """What `publish` did, or in a dry run would do.

    Attributes:
        digest: the release's.
        new_files: names of the files whose bytes the store lacked; several files with the same bytes count once.
        new_bytes: size of these.
        object_count: distinct objects of the release.
        signed: whether there is a signature beside the release; it is published with it.
    """

    digest: str
    new_files: list[str]
    new_bytes: int
    object_count: int
    signed: bool


def publish(store: Store, release: Path, build: Path, *, dry_run: bool = False) -> PublishResult:
    """Upload a release that the gate passed: objects, each read back and hashed, then the manifest.

    Args:
        store: where to publish.
        release: the release folder.
        build: the folder with gate/ and catalog/ of its build.
        dry_run: check and compare only.

    Raises:
        IntegrityError: see `require_passing_verdict`; or an object was read back with other bytes.
        GateError, InputError: see `require_passing_verdict`.
        RemoteError: the store refused, or has another manifest under this digest.
        RetryableError: the store is unavailable.
    """
    body = require_passing_verdict(release, build)
    key, manifest_bytes = manifest_key(body.digest), (release / manifest.NAME).read_bytes()
    _require_same_manifest(store, key, manifest_bytes)
    objects = {entry.sha256: (name, entry.size) for name, entry in sorted(body.files.items(), reverse=True)}
    missing = {sha256: objects[sha256] for sha256 in objects if store.get_size(object_key(sha256)) is None}
    result = PublishResult(
        digest=body.digest,
        new_files=sorted(name for name, _ in missing.values()),
        new_bytes=sum(size for _, size in missing.values()),
        object_count=len(objects),
        signed=signature.folder_of(release).is_dir(),
    )
    if dry_run:
        return result
    store.require_conditional_writes()
    with byte_bar("publish", result.new_bytes + sum(size for _, size in objects.values())) as bar:
        for sha256, (name, _) in missing.items():
            store.create(object_key(sha256), release / name, bar.update)
        for sha256 in objects:
            _download_object(store, sha256, None, lambda _: None, bar.update)
    upload_signature(store, body.digest, release)
    store.create(key, release / manifest.NAME, lambda _: None)
    _require_same_manifest(store, key, manifest_bytes, required=True)
    store.remove_stale_uploads()
    return result


def fetch(store: Store, release: str, out: Path, *, signer: Signer | None = None, dry_run: bool = False) -> Manifest:
    """Download a release and return its manifest; `out` appears, or is replaced, once every byte was checked.

    Its signature, if it has one, is written to a folder beside `out`: see `embed_foundry.signature`.

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
        return body
    with atomic_folder(out, body.size) as work, byte_bar("fetch", body.size) as bar:
        for name, entry in sorted(body.files.items()):
            path = work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                _download_object(store, entry.sha256, entry.size, file.write, bar.update)
        (work / manifest.NAME).write_bytes(manifest_bytes)
        Bundle.load(work)
        # Last, so that until here a release fetched before keeps its own signature.
        download_signature(store, digest, out, work, signer)
    return body


def _require_same_manifest(store: Store, key: str, manifest_bytes: bytes, *, required: bool = False) -> None:
    stored = store.read(key)
    if stored is None and required:
        raise IntegrityError(
            f"{store.address}/{key}: is not there, though the store accepted it. No channel was moved. Run again; "
            "if it persists, use another store."
        )
    if stored is not None and stored.data != manifest_bytes:
        raise RemoteError(f"{store.address}/{key}: holds other bytes; releases are immutable. Remove it by hand.")


def _holds_release(folder: Path, digest: str) -> bool:
    try:
        return manifest.verify(folder).digest == digest
    except IntegrityError:
        return False


def _download_object(
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
