"""A store of each kind for a test, and what tests ask of releases in it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embed_foundry import manifest

from stages.commands.promote.store import Store
from support.small_release import refit


@dataclass
class Place:
    """A store: its address, and a way around its conditions, to break it."""

    address: str
    store: Store
    put: Callable[[str, bytes], None]
    remove: Callable[[str], None]

    def read(self, key: str) -> bytes:
        return b"".join(self.store.stream(key))

    def named(self) -> list[str]:
        return [key for key in self.store.keys("") if key.startswith(("objects/", "releases/", "channels/"))]


def digest(release: Path) -> str:
    return str(manifest.read(release).digest)


def actions(run) -> list[tuple[str, str]]:
    """Return what `history stable` tells, the oldest first: action and release."""
    code, out, _ = run("history", "stable")
    assert code == 0
    lines = out.splitlines()[::-1]
    words = [line.lstrip("* ").split() for line in lines]
    assert [int(it[0]) for it in words] == list(range(1, len(lines) + 1))
    return [(it[2], it[3]) for it in words]


def forge(release: Path, folder: Path, name: str, change: Callable[[dict[str, Any]], object]) -> Path:
    """Copy a build, change a JSON file of the release, and make all its manifests agree with it."""
    shutil.copytree(release.parent, folder)
    path = folder / "release" / name
    content = json.loads(path.read_text())
    change(content)
    path.write_bytes(manifest.canonical(content))
    refit(path.parent if name.startswith("variants/") else folder / "release")
    refit(folder / "release")
    return folder / "release"
