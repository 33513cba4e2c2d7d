"""manifest.json: what a folder holds, by SHA-256; written last and checked before anything in the folder is used.

The manifest carries its own digest, so that a changed byte anywhere in the folder, the manifest included, is found and
named. It holds no time, host or absolute path: the same content gives the same bytes.
"""

import hashlib
import json
import shlex
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import IntegrityError
from .file_check import LINE_ENDS, describe_pointer, open_regular, require_bytes
from .listing import list_files

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
    except (OSError, ValueError, RecursionError) as error:
        raise IntegrityError(f"{path}: not readable as JSON ({error}). {next_step}") from None
    if not isinstance(value, dict):
        raise IntegrityError(f"{path}: expected an object, found a {type(value).__name__}. {next_step}")
    return value


def files_of(folder: Path) -> list[str]:
    """Return the relative POSIX names of the files that count under a folder, sorted, without its own manifest.

    Raises:
        InputError: the folder cannot be read.
        IntegrityError: see `listing.list_files`.
    """
    return [name for name in list_files(folder) if name != NAME]


def write(folder: Path, fields: Mapping[str, object]) -> str:
    """Write `folder/manifest.json` over all files now in the folder and return its digest.

    Args:
        folder: the finished folder.
        fields: what else to record: stage, parameters, input digests, library versions; JSON values.

    Raises:
        IntegrityError: the folder holds something that is no regular file.
    """
    body: JsonObject = {"schema": SCHEMA, **fields}
    names = files_of(folder)
    for name in names:
        if (folder / name).is_symlink():
            raise IntegrityError(
                f"{folder / name}: is not a regular file; artifacts hold regular files only. Remove it."
            )
    body["files"] = {name: {"sha256": sha256(folder / name), "size": (folder / name).stat().st_size} for name in names}
    body["digest"] = hashlib.sha256(canonical(body)).hexdigest()
    (folder / NAME).write_bytes(canonical(body))
    return str(body["digest"])


def read(folder: Path) -> Manifest:
    """Return the manifest of a folder after checking the manifest's own digest, without reading the other files.

    Raises:
        InputError: the manifest cannot be read.
        IntegrityError: the manifest is missing, damaged, of another schema, or differs from its own digest.
    """
    path = folder / NAME
    if not path.is_file():
        raise IntegrityError(f"{path}: missing, so nothing in {folder} can be trusted. {_next_step(folder)}")
    with open_regular(path, _next_step(folder)) as file:
        raw = file.read()
    try:
        body: JsonObject = json.loads(raw)
        digest = body.pop("digest")
        # A number too large for a float and a lone surrogate can be read from JSON, but not be written to it.
        intact = hashlib.sha256(canonical(body)).hexdigest() == digest
        fits = canonical(body | {"digest": digest}) == raw
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        fault = describe_pointer(raw[:100]) or f"not a readable manifest ({error}). {_next_step(folder)}"
        raise IntegrityError(f"{path}: {fault}") from None
    if intact and not fits and canonical(body | {"digest": digest}) == raw.replace(b"\r\n", b"\n"):
        raise IntegrityError(f"{path}: {LINE_ENDS}")
    if not (intact and fits):
        raise IntegrityError(f"{path}: changed since it was written (own digest differs). {_next_step(folder)}")
    if body.get("schema") != SCHEMA:
        raise IntegrityError(
            f"{path}: has manifest schema {body.get('schema')!a:.60}, this version reads {SCHEMA}. "
            "Use the one that wrote it."
        )
    try:
        return parse(body | {"digest": digest})
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise IntegrityError(f"{path}: lacks a field, or has a wrong one ({error}). {_next_step(folder)}") from None


def parse(body: JsonObject) -> Manifest:
    """Return a manifest, given the JSON object of an intact one.

    Raises:
        KeyError, TypeError, AttributeError, ValueError: a field is missing or wrong.
    """
    stage = body.get("stage", "")
    if not stage.isprintable():  # messages quote it on one line
        raise ValueError(f"stage {stage[:60]!a} is no name")
    return Manifest(
        digest=body["digest"],
        files={name: FileEntry(entry["sha256"], entry["size"]) for name, entry in body["files"].items()},
        stage=stage,
        parameters=body.get("parameters", {}),
        inputs=body.get("inputs", {}),
        libraries=body.get("libraries", {}),
    )


def verify(folder: Path) -> Manifest:
    """Check every file of a folder against its manifest, reading each once in blocks, and return the manifest.

    Raises:
        InputError: a file cannot be read.
        IntegrityError: a file is missing, added, resized or changed; the message names it and the next step.
    """
    body = read(folder)
    present = set(files_of(folder))
    next_step = _next_step(folder, body.stage)
    added, missing = sorted(present - set(body.files)), sorted(set(body.files) - present)
    if added:
        raise IntegrityError(_describe_added(folder, body, added, missing))
    if missing:
        raise IntegrityError(f"{folder / missing[0]}: missing, the manifest lists it. {next_step}")
    for name, entry in sorted(body.files.items()):
        require_bytes(folder / name, entry.sha256, entry.size, next_step)
    return body


def _describe_added(folder: Path, body: Manifest, added: list[str], missing: list[str]) -> str:
    """Return the message about files that a manifest does not list; `missing` are those that it does."""
    renamed = {_fold(name): name for name in missing}
    for name in added:
        if original := renamed.get(_fold(name)):
            return f"{folder / name}: is listed as {original}; a file system or a tool changed its name. Rename it."
    fault = f"{folder / added[0]}: not listed in the manifest, so it was added later"
    if missing:  # the folder is a mix, or the manifest another one's: nothing is to be removed from it
        return f"{fault}, and {missing[0]} is missing. {_next_step(folder, body.stage)}"
    paths = sorted({str(folder / _topmost(name, body.files)) for name in added})
    return f"{fault}; a release opens without it. Next: {shlex.join(['rm', '-r', *paths])}"


def _fold(name: str) -> str:
    """Return a name as file systems compare it that know no case, or other forms of accents."""
    return unicodedata.normalize("NFC", name).casefold()


def _topmost(name: str, listed: Mapping[str, FileEntry]) -> str:
    """Return the highest folder of an added file that holds no listed file, or the file itself."""
    parts = name.split("/")
    folders = ("/".join(parts[:depth]) for depth in range(1, len(parts)))
    return next((folder for folder in folders if not any(file.startswith(f"{folder}/") for file in listed)), name)


def _next_step(folder: Path, stage: str = "") -> str:
    """Return the sentence that tells a user how to get the folder again, by its DVC stage where that is known."""
    if not Path("dvc.yaml").exists() or not folder.resolve().is_relative_to(Path.cwd()):
        return f"Do not use {folder}; fetch it again, or build it again with stage {stage or 'bundle'}."
    builder = f"Stage {stage}" if stage else "The stage that makes it"
    return f"{builder} must run again: embed-foundry repair, then dvc repro."
