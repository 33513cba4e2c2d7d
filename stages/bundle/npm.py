"""Packages of npm that a bundle for browsers holds: fetched by npm, checked against the lock, kept in .cache/npm."""

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from embed_foundry import InputError, IntegrityError
from embed_foundry.errors import one_line

CACHE = Path(".cache/npm")


@dataclass(frozen=True)
class NpmPackage:
    """One package of a package-lock.json.

    Attributes:
        name: with its scope, e.g. "@huggingface/tokenizers".
        version: the exact one.
        integrity: base64 of the SHA-512 of its archive, after "sha512-".
        license: its SPDX id.
    """

    name: str
    version: str
    integrity: str
    license: str

    @property
    def folder(self) -> str:
        """The name without its scope."""
        return self.name.rpartition("/")[2]


def read_lock(path: Path) -> dict[str, NpmPackage]:
    """Return the packages that the project itself depends on: name -> package."""
    packages = json.loads(path.read_text(encoding="utf-8"))["packages"]
    locked = {name: packages[f"node_modules/{name}"] for name in packages[""]["dependencies"]}
    return {
        name: NpmPackage(name, entry["version"], entry["integrity"], entry["license"]) for name, entry in locked.items()
    }


def fetch(package: NpmPackage, cache: Path = CACHE) -> Path:
    """Return the path of a package's archive (.tgz): from the cache, or fetched by `npm pack`.

    npm knows the user's registry, proxy and tokens.

    Raises:
        InputError: npm is not installed, or cannot fetch the package.
        IntegrityError: the registry has other bytes than the lock.
    """
    archive = cache / f"{package.folder}-{package.version}.tgz"
    if not archive.is_file() or _integrity(archive) != package.integrity:
        _pack(package, archive)
    return archive


def read_members(archive: Path, names: list[str]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each named file of an archive.

    Raises:
        IntegrityError: the archive lacks one.
    """
    with tarfile.open(archive) as opened:
        for name in names:
            try:
                file = opened.extractfile(f"package/{name}")
            except KeyError:
                file = None
            if file is None:
                raise IntegrityError(f"{archive}: holds no {name}. Change BROWSER_FILES with the package's version.")
            yield name, file.read()


def _pack(package: NpmPackage, archive: Path) -> None:
    if not (npm := shutil.which("npm")):
        raise InputError(
            f"npm is not installed, and a bundle for browsers needs {package.name} {package.version}. Install Node.js, "
            f"or put the package's archive at {archive}."
        )
    archive.parent.mkdir(parents=True, exist_ok=True)
    command = [npm, "pack", "--ignore-scripts", "--pack-destination", str(archive.parent.resolve())]
    done = subprocess.run(
        [*command, f"{package.name}@{package.version}"], capture_output=True, text=True, check=False, cwd=archive.parent
    )
    if done.returncode:
        raise InputError(
            f"npm cannot fetch {package.name}@{package.version} ({one_line(done.stderr)}). Check its registry, or put "
            f"the archive at {archive}."
        )
    packed = archive.parent / f"{package.name.removeprefix('@').replace('/', '-')}-{package.version}.tgz"
    if (actual := _integrity(packed)) != package.integrity:
        packed.unlink()
        raise IntegrityError(
            f"{package.name}@{package.version}: the registry has {actual}, the lock {package.integrity}. Do not use it."
        )
    packed.replace(archive)


def _integrity(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha512-{base64.b64encode(hashlib.file_digest(file, 'sha512').digest()).decode()}"
