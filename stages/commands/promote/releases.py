"""Releases as they stand in a store: the manifest that names them, and whether they are whole."""

import hashlib
import json
from pathlib import PurePosixPath
from typing import Any

from embed_foundry import InputError, IntegrityError, manifest
from embed_foundry.manifest import Manifest
from pydantic import Field, TypeAdapter

from stages.commands.promote.channel import Digest
from stages.commands.promote.store import Store, object_key, release_key
from stages.common.config.strict import Strict


class _File(Strict):
    sha256: Digest
    size: int = Field(ge=0)


FILES = TypeAdapter(dict[str, _File])


def load(store: Store, digest: str) -> tuple[bytes, Manifest]:
    """Return the bytes and content of a published release's manifest, checked against the digest that names it.

    Raises:
        InputError: no such release.
        IntegrityError: the manifest was changed, or lists a file that would lie outside a release's folder.
    """
    key = release_key(digest)
    found = store.read(key)
    if found is None:
        raise InputError(f"{store.where}: holds no release {digest}. Publish it: embed-foundry publish.")
    where = f"{store.where}/{key}"
    try:
        body: dict[str, Any] = json.loads(found.data)
        claimed = body.pop("digest")
        FILES.validate_python(body["files"])
        intact = claimed == digest == hashlib.sha256(manifest.canonical(body)).hexdigest()
    except (ValueError, KeyError, AttributeError, TypeError):
        intact = False
    if not intact or found.data != manifest.canonical(body | {"digest": digest}):
        raise IntegrityError(f"{where}: is not the manifest of this digest; it was changed. Remove it, publish again.")
    for name in body["files"]:
        parts = PurePosixPath(name).parts
        if PurePosixPath(name).is_absolute() or ".." in parts or name != "/".join(parts):
            raise IntegrityError(f"{where}: lists {name!r}, which lies outside a release. Do not use this release.")
    return found.data, manifest.parse(body | {"digest": digest})


def require_whole(store: Store, digest: str) -> None:
    """Check that all of a release is in the store, without downloading it: `publish` read every object back.

    Raises:
        InputError: no such release.
        IntegrityError: its manifest was changed, or an object is missing or has another size.
    """
    for name, entry in sorted(load(store, digest)[1].files.items()):
        if (size := store.size(object_key(entry.sha256))) != entry.size:
            found = "is missing" if size is None else f"has {size} bytes instead of {entry.size}"
            raise IntegrityError(
                f"{store.where}: release {digest} is not whole: {name} ({object_key(entry.sha256)}) {found}. "
                "Publish it again; no channel was moved."
            )
