"""publish: the bytes of a release that the gate passed to a store, each read back and hashed."""

from dataclasses import dataclass
from pathlib import Path

from embed_foundry import IntegrityError, RemoteError, manifest, signature
from embed_foundry.progress import byte_bar
from embed_foundry.store.certificate_files import upload_certificates
from embed_foundry.store.fetch import download_object
from embed_foundry.store.signature_files import upload_signature
from embed_foundry.store.store import Store, manifest_key, object_key

from stages.commands.publish.gate_binding import require_passing_verdict


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
        IntegrityError: see `require_passing_verdict`; the signature beside the release is about other bytes; or an
            object was read back with other bytes.
        GateError, InputError: see `require_passing_verdict`.
        RemoteError: the store refused, or has another manifest under this digest.
        RetryableError: the store is unavailable.
    """
    body = require_passing_verdict(release, build)
    signed = signature.folder_of(release).is_dir()
    if signed:
        signature.require_own(release, body)
    key, manifest_bytes = manifest_key(body.digest), (release / manifest.NAME).read_bytes()
    _require_same_manifest(store, key, manifest_bytes)
    objects = {entry.sha256: (name, entry.size) for name, entry in sorted(body.files.items(), reverse=True)}
    missing = {sha256: objects[sha256] for sha256 in objects if store.get_size(object_key(sha256)) is None}
    result = PublishResult(
        digest=body.digest,
        new_files=sorted(name for name, _ in missing.values()),
        new_bytes=sum(size for _, size in missing.values()),
        object_count=len(objects),
        signed=signed,
    )
    if dry_run:
        return result
    store.require_conditional_writes()
    with byte_bar("publish", result.new_bytes + sum(size for _, size in objects.values())) as bar:
        for sha256, (name, _) in missing.items():
            store.create(object_key(sha256), release / name, bar.update)
        for sha256 in objects:
            download_object(store, sha256, None, lambda _: None, bar.update)
    upload_signature(store, body.digest, release)
    upload_certificates(store, body.digest, release)
    store.create(key, release / manifest.NAME, lambda _: None)
    _require_same_manifest(store, key, manifest_bytes, required=True)
    store.remove_stale_uploads()
    return result


def _require_same_manifest(store: Store, key: str, manifest_bytes: bytes, *, required: bool = False) -> None:
    stored = store.read(key)
    if stored is None and required:
        raise IntegrityError(
            f"{store.address}/{key}: is not there, though the store accepted it. No channel was moved. Run again; "
            "if it persists, use another store."
        )
    if stored is not None and stored.data != manifest_bytes:
        raise RemoteError(f"{store.address}/{key}: holds other bytes; releases are immutable. Remove it by hand.")
