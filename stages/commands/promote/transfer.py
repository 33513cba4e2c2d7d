"""publish and fetch: a release's bytes to a store and back, hashed at both ends."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from embed_foundry import Bundle, InputError, IntegrityError, RemoteError, manifest
from embed_foundry.manifest import Manifest
from embed_foundry.signature import folder_of
from embed_foundry.signer import Signer

from stages.commands.promote import releases, signature
from stages.commands.promote.bound import require_judged
from stages.commands.promote.moves import resolve
from stages.commands.promote.store import Moved, Store, object_key, release_key
from stages.common.contract import progress
from stages.common.contract.output import atomic_folder


@dataclass(frozen=True)
class Published:
    """What `publish` did, or in a dry run would do.

    Attributes:
        digest: the release's identity.
        new: file names whose bytes the store lacked; several files of the same bytes count once.
        new_bytes: of these.
        objects: distinct objects of the release.
        signed: whether a signature lies beside the release; it is published with it.
    """

    digest: str
    new: list[str]
    new_bytes: int
    objects: int
    signed: bool


def publish(store: Store, release: Path, build: Path, *, dry_run: bool = False) -> Published:
    """Upload a release that the gate passed: objects, each read back and hashed, then the manifest.

    Args:
        store: where to.
        release: the release folder.
        build: the folder with gate/ and catalog/ of its build.
        dry_run: only check and compare.

    Raises:
        IntegrityError: see `bound.require_judged`; or what was read back has other bytes.
        GateError, InputError: see `bound.require_judged`.
        RemoteError: the store refused, or holds another manifest under this digest.
        RetryableError: the store is unavailable.
    """
    body = require_judged(release, build)
    key, raw = release_key(body.digest), (release / manifest.NAME).read_bytes()
    _require_same(store, key, raw)
    files = {entry.sha256: (name, entry.size) for name, entry in sorted(body.files.items(), reverse=True)}
    new = {digest: files[digest] for digest in files if store.size(object_key(digest)) is None}
    new_bytes = sum(size for _, size in new.values())
    told = Published(
        body.digest,
        sorted(name for name, _ in new.values()),
        new_bytes,
        len(files),
        folder_of(release).is_dir(),
    )
    if dry_run:
        return told
    store.require_conditions()
    with progress.transfer("publish", new_bytes + sum(size for _, size in files.values())) as bar:
        for digest, (name, _) in new.items():
            store.create(object_key(digest), release / name, bar.update)
        for digest in files:
            _read_back(store, digest, bar.update)
    signature.publish(store, body.digest, release)
    store.create(key, release / manifest.NAME, lambda _: None)
    _require_same(store, key, raw, there=True)
    store.sweep()
    return told


def fetch(store: Store, release: str, out: Path, *, signer: Signer | None = None, dry_run: bool = False) -> Manifest:
    """Download a release; `out` appears, or is replaced, when every byte was checked. Return its manifest.

    Its signature, if it has one, comes to the folder beside it that `embed_foundry.signature.folder_of` names.

    Args:
        store: where from.
        release: a release's digest, or a channel's name.
        out: the folder.
        signer: who must have signed it; None takes it unsigned too.
        dry_run: only look up what would come.

    Raises:
        InputError: no such release; or `out` exists and is no release.
        IntegrityError: what came differs from the manifest, or is not signed by `signer`.
        RetryableError: the store is unavailable, the disk too small, or another process writes `out`.
    """
    digest = resolve(store, release)
    raw, body = releases.load(store, digest)
    if out.exists() and not (out / manifest.NAME).is_file():
        raise InputError(f"{out}: exists and is no release; fetch would replace it. Name another folder.")
    if dry_run:
        return body
    if out.exists() and _intact(out, digest):
        signature.fetch(store, digest, out, out, signer)
        return body
    total = body.size
    with atomic_folder(out, total) as work, progress.transfer("fetch", total) as bar:
        for name, entry in sorted(body.files.items()):
            path = work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                _copy(store, entry.sha256, entry.size, file.write, bar.update)
        (work / manifest.NAME).write_bytes(raw)
        Bundle.load(work)
        signature.fetch(store, digest, out, work, signer)  # last: until here what was fetched before keeps its own
    return body


def _require_same(store: Store, key: str, raw: bytes, *, there: bool = False) -> None:
    found = store.read(key)
    if (found is None and there) or (found and found.data != raw):
        raise RemoteError(f"{store.where}/{key}: holds other bytes; releases are immutable. Remove it by hand.")


def _intact(folder: Path, digest: str) -> bool:
    try:
        return bool(manifest.verify(folder).digest == digest)
    except IntegrityError:
        return False


def _read_back(store: Store, digest: str, moved_bytes: Moved) -> None:
    _copy(store, digest, None, lambda _: None, moved_bytes)


def _copy(store: Store, sha256: str, size: int | None, write: Callable[[bytes], object], moved_bytes: Moved) -> None:
    """Hand on an object's bytes and check them; no more than `size` are taken."""
    hashed, count = hashlib.sha256(), 0
    for block in store.stream(object_key(sha256)):
        count += len(block)
        if size is not None and count > size:
            break
        hashed.update(block)
        write(block)
        moved_bytes(len(block))
    if hashed.hexdigest() != sha256 or (size is not None and count != size):
        raise IntegrityError(
            f"{store.where}/{object_key(sha256)}: came back as {count} bytes with sha256 {hashed.hexdigest()}. "
            "No channel was moved. Run again; if it stays, remove that object and publish again."
        )
