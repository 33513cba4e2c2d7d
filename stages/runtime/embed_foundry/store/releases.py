"""Releases in a store: the manifest that lists their files, and whether they are complete."""

import hashlib
import json
from pathlib import PurePosixPath

from .. import manifest
from ..contract import NAME
from ..errors import InputError, IntegrityError
from ..manifest import JsonObject, Manifest
from .store import DIGEST, Store, manifest_key, object_key


def load_manifest(store: Store, digest: str) -> tuple[bytes, Manifest]:
    """Return the bytes and content of a published release's manifest, checked against the digest that names it.

    Raises:
        InputError: there is no such release.
        IntegrityError: the manifest was changed, or lists a file that would lie outside a release's folder.
    """
    key = manifest_key(digest)
    stored = store.read(key)
    if stored is None:
        raise InputError(f"{store.address}: has no release {digest}. Publish it: embed-foundry publish.")
    try:
        body: JsonObject = json.loads(stored.data)
        own_digest = body.pop("digest")
        _require_file_entries(body["files"])
        intact = own_digest == digest == hashlib.sha256(manifest.canonical(body)).hexdigest()
        content = manifest.parse(body | {"digest": digest})
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        intact = False
    if not intact or stored.data != manifest.canonical(body | {"digest": digest}):
        raise IntegrityError(
            f"{store.address}/{key}: is not the manifest of this digest; it was changed. Remove it, publish again."
        )
    for name in body["files"]:
        parts = PurePosixPath(name).parts
        if PurePosixPath(name).is_absolute() or ".." in parts or name != "/".join(parts):
            raise IntegrityError(
                f"{store.address}/{key}: lists {name!r}, which lies outside a release. Do not use this release."
            )
    return stored.data, content


def require_complete(store: Store, digest: str) -> None:
    """Check that the store has all files of a release, without downloading them: `publish` read every object back.

    Raises:
        InputError: there is no such release.
        IntegrityError: its manifest was changed, or an object is missing or has another size.
    """
    for name, entry in sorted(load_manifest(store, digest)[1].files.items()):
        size = store.get_size(object_key(entry.sha256))
        if size != entry.size:
            fault = "is missing" if size is None else f"has {size} bytes instead of {entry.size}"
            raise IntegrityError(
                f"{store.address}: release {digest} is incomplete: {name} ({object_key(entry.sha256)}) {fault}. "
                "No channel was moved. Publish the release again."
            )


def load_space(store: Store, digest: str) -> str | None:
    """Return the vector space of a release: that of its first variant, which all that replace it share.

    Only so much of bundle.json is read as all its versions have. None: it does not say.

    Raises:
        InputError: there is no such release.
        IntegrityError: its manifest or bundle.json was changed, or is missing.
    """
    entry = load_manifest(store, digest)[1].files.get(NAME)
    content = b"".join(store.stream(object_key(entry.sha256))) if entry else b""
    if not entry or hashlib.sha256(content).hexdigest() != entry.sha256:
        raise IntegrityError(
            f"{store.address}: release {digest}: {NAME} is missing or was changed. Publish the release again."
        )
    try:
        body = json.loads(content)
        return str(body["variants"][body["selection"]["order"][0]]["space_id"])
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return None


def _require_file_entries(files: JsonObject) -> None:
    """Check that each entry is a digest and a size; raises what a wrong one leads to, ValueError among it."""
    for entry in files.values():
        fits = entry.keys() == {"sha256", "size"} and type(entry["size"]) is int and entry["size"] >= 0
        if not (fits and DIGEST.fullmatch(entry["sha256"])):
            raise ValueError("not a file's digest and size")
