"""manifest.json: what a folder holds, by SHA-256; written last and checked before anything in the folder is used.

The manifest carries its own digest, so that a changed byte anywhere in the folder, the manifest included, is found and
named. It holds no time, host or absolute path: the same content gives the same bytes.
"""

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import IntegrityError

NAME = "manifest.json"
SCHEMA = 1
# What json.loads makes of an object.
JsonObject = dict[str, Any]


@dataclass(frozen=True)
class FileEntry:
    """One file: the hex SHA-256 of its bytes, and how many there are."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """What a folder holds and what made it.

    Attributes:
        digest: of the manifest itself, and so of every file.
        files: relative POSIX name -> entry.
        stage: the DVC stage that wrote the folder; "" if it was no stage.
        parameters: the configuration that it was made by.
        inputs: name -> digest of each folder it was made from.
        libraries: distribution -> version, of those that can change the bytes.
    """

    digest: str
    files: dict[str, FileEntry]
    stage: str = ""
    parameters: JsonObject = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)

    @property
    def hashes(self) -> dict[str, str]:
        """File name -> SHA-256."""
        return {name: entry.sha256 for name, entry in self.files.items()}

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files.values())


def sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes, read in blocks of 1 MiB."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical(value: object) -> bytes:
    """Return the one JSON encoding used for digests: sorted keys, 2-space indent, no NaN, final newline.

    Args:
        value: any JSON value.

    Raises:
        ValueError: the value holds NaN or an infinity.
    """
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_object(path: Path, next_step: str) -> JsonObject:
    """Return the object that a JSON file holds.

    Args:
        path: the file.
        next_step: the sentence that tells a user what to do if it holds none.

    Raises:
        IntegrityError: missing, not JSON, or not an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{path}: not readable as JSON ({error}). {next_step}") from None
    if not isinstance(value, dict):
        raise IntegrityError(f"{path}: expected an object, found a {type(value).__name__}. {next_step}")
    return value


def files_of(folder: Path) -> list[str]:
    """Return the relative POSIX names of all files under a folder, sorted, without its own manifest.

    Raises:
        IntegrityError: the folder holds a link, socket, FIFO or device.
    """
    names = []
    for root, directories, files in os.walk(folder):
        for name in [*directories, *files]:
            path = Path(root, name)
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise IntegrityError(f"{path}: is not a regular file; artifacts hold regular files only. Remove it.")
        names += [Path(root, name).relative_to(folder).as_posix() for name in files]
    return sorted(name for name in names if name != NAME)


def write(folder: Path, fields: Mapping[str, object]) -> str:
    """Write `folder/manifest.json` over all files now in the folder and return its digest.

    Args:
        folder: the finished folder.
        fields: what else to record: stage, parameters, input digests, library versions; JSON values.
    """
    body: JsonObject = {"schema": SCHEMA, **fields}
    body["files"] = {
        name: {"sha256": sha256(folder / name), "size": (folder / name).stat().st_size} for name in files_of(folder)
    }
    body["digest"] = hashlib.sha256(canonical(body)).hexdigest()
    (folder / NAME).write_bytes(canonical(body))
    return str(body["digest"])


def read(folder: Path) -> Manifest:
    """Return the manifest of a folder after checking the manifest's own digest, without reading the other files.

    Raises:
        IntegrityError: the manifest is missing, unreadable, of another schema, or differs from its own digest.
    """
    path = folder / NAME
    if not path.is_file():
        raise IntegrityError(f"{path}: missing, so nothing in {folder} can be trusted. {_next_step(folder)}")
    raw = path.read_bytes()
    try:
        body: JsonObject = json.loads(raw)
        digest = body.pop("digest")
        # A number too large for a float and a lone surrogate can be read from JSON, but not be written to it.
        intact = hashlib.sha256(canonical(body)).hexdigest() == digest and canonical(body | {"digest": digest}) == raw
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise IntegrityError(f"{path}: not a readable manifest ({error}). {_next_step(folder)}") from None
    if not intact:
        raise IntegrityError(f"{path}: changed since it was written (own digest differs). {_next_step(folder)}")
    if body.get("schema") != SCHEMA:
        raise IntegrityError(
            f"{path}: has manifest schema {body.get('schema')}, this version reads {SCHEMA}. Use the one that wrote it."
        )
    try:
        return parse(body | {"digest": digest})
    except (KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(f"{path}: lacks a field, or has a wrong one ({error}). {_next_step(folder)}") from None


def parse(body: JsonObject) -> Manifest:
    """Return a manifest, given the JSON object of an intact one."""
    return Manifest(
        digest=body["digest"],
        files={name: FileEntry(entry["sha256"], entry["size"]) for name, entry in body["files"].items()},
        stage=body.get("stage", ""),
        parameters=body.get("parameters", {}),
        inputs=body.get("inputs", {}),
        libraries=body.get("libraries", {}),
    )


def verify(folder: Path) -> Manifest:
    """Check every file of a folder against its manifest and return the manifest.

    Raises:
        IntegrityError: a file is missing, added, resized or changed; the message names it and the stage to re-run.
    """
    body = read(folder)
    present = set(files_of(folder))
    next_step = _next_step(folder, body.stage)
    for name in sorted(present - set(body.files)):
        raise IntegrityError(f"{folder / name}: not listed in the manifest, so it was added later. {next_step}")
    for name, entry in sorted(body.files.items()):
        path = folder / name
        if name not in present:
            raise IntegrityError(f"{path}: missing, the manifest lists it. {next_step}")
        if path.stat().st_size != entry.size:
            raise IntegrityError(
                f"{path}: has {path.stat().st_size} bytes, the manifest says {entry.size}. {next_step}"
            )
        if (actual := sha256(path)) != entry.sha256:
            raise IntegrityError(f"{path}: has sha256 {actual}, the manifest says {entry.sha256}. {next_step}")
    return body


def _next_step(folder: Path, stage: str = "") -> str:
    """Return the sentence that tells a user how to get the folder again, by its DVC stage where that is known."""
    if not Path("dvc.yaml").exists():
        return f"Do not use {folder}; fetch it again, or build it again with stage {stage or 'bundle'}."
    builder = f"Stage {stage}" if stage else "The stage that makes it"
    return f"{builder} must run again: embed-foundry repair, then dvc repro."
