"""A store that a test may corrupt, and what tests read of the releases in it."""

import base64
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embed_foundry import manifest, signature
from embed_foundry.signer import PROVENANCE, SIGNATURE
from embed_foundry.store.store import Store

from support.small_release import refit


@dataclass
class StoreUnderTest:
    """A store.

    Attributes:
        store: itself.
        put: writes a key without the store's conditions, to corrupt it.
        remove: removes a key.
    """

    store: Store
    put: Callable[[str, bytes], None]
    remove: Callable[[str], None]

    def read(self, key: str) -> bytes:
        return b"".join(self.store.stream(key))

    def list_published(self) -> list[str]:
        return [key for key in self.store.list_keys("") if key.startswith(("objects/", "releases/", "channels/"))]


def read_digest(release: Path) -> str:
    return manifest.read(release).digest


def read_moves(run_command) -> list[tuple[str, str]]:
    """Return what `history stable` prints, oldest first: action and release."""
    code, out, _ = run_command("history", "stable")
    assert code == 0
    moves = [line.lstrip("* ").split() for line in out.splitlines()[::-1]]
    assert [int(number) for number, *_ in moves] == list(range(1, len(moves) + 1))
    return [(action, release) for _, _, action, release, *_ in moves]


def forge_release(release: Path, folder: Path, name: str, change: Callable[[dict[str, Any]], object]) -> Path:
    """Copy a build, change a JSON file of the release, and make all its manifests agree with it."""
    shutil.copytree(release.parent, folder)
    path = folder / "release" / name
    content = json.loads(path.read_text())
    change(content)
    path.write_bytes(manifest.canonical(content))
    refit(path.parent if name.startswith("variants/") else folder / "release")
    refit(folder / "release")
    return folder / "release"


def write_signature(release: Path) -> Path:
    """Write a signature that names a release's bytes, and was made by nobody; return its folder."""
    folder = signature.folder_of(release)
    statement = {
        "_type": signature.STATEMENT,
        "predicateType": signature.PREDICATE,
        "subject": signature.build_subject(signature.list_signed(release, manifest.read(release))),
    }
    payload = base64.b64encode(json.dumps(statement).encode()).decode()
    envelope = {"payloadType": signature.PAYLOAD_TYPE, "payload": payload, "signatures": []}
    folder.mkdir(exist_ok=True)
    (folder / PROVENANCE).write_text(json.dumps(envelope))
    (folder / SIGNATURE).write_text("by nobody")
    return folder
