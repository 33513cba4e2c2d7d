"""The doors of releases and stores, and what every door is made with.

A door is made for one folder and called with a file's bytes. It returns, or raises a FoundryError.
"""

import hashlib
import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from embed_foundry import Bundle, Key, archive, contract, manifest, signature
from embed_foundry.encoders.encoder import open_variant
from embed_foundry.store.channel import append_move
from embed_foundry.store.channels import list_channels, load_channel
from embed_foundry.store.file_store import FileStore

from stages.commands.sign import KeyPairSigner, generate_key_pair
from stages.commands.sign.provenance import build_statement
from support import small_release, tiny_graph, tiny_static

ROOT = Path(__file__).resolve().parent.parent.parent
GOLDEN = ROOT / "tests" / "golden" / "bundle-2-of-2026-11-26.tar"
Door = Callable[[bytes], object]


@dataclass(frozen=True)
class Parser:
    """A parser to be given damaged files.

    Attributes:
        valid: whole files, which it must read.
        open_door: makes the door in a folder; a generator that cleans up behind it.
        structured: the files are JSON or JSON lines.
        refusal: the error that callers of an inner parser turn into a message; none for doors.
        file: the file's name, which messages hold, or else its folder's; "" if there is none.
        lists_faults: its messages have a line for each fault.
        reads_valid: the files are whole; else they only begin to be.
        share: of the many files, where each takes ten times as long as elsewhere.
    """

    valid: tuple[bytes, ...]
    open_door: Callable[[Path], "Iterator[Door]"]
    structured: bool = True
    refusal: type[Exception] | tuple[type[Exception], ...] = ()
    file: str = ""
    lists_faults: bool = False
    reads_valid: bool = True
    share: float = 1.0


def write_then(name: str, read: Callable[[Path], object]) -> Callable[[Path], Iterator[Door]]:
    """Return an `open_door` that writes the bytes to a file, and reads it."""

    def open_door(folder: Path) -> Iterator[Door]:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)

        def door(data: bytes) -> object:
            path.write_bytes(data)
            return read(path)

        yield door

    return open_door


def in_folder(name: str, read: Callable[[Path], object]) -> Callable[[Path], Iterator[Door]]:
    return write_then(name, lambda path: read(path.parents[len(Path(name).parts) - 1]))


def call(read: Callable[[bytes], object]) -> Callable[[Path], Iterator[Door]]:
    def open_door(_: Path) -> Iterator[Door]:
        yield read

    return open_door


def as_json(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()


def as_jsonl(*table: dict[str, Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in table).encode()


def read_golden(name: str) -> bytes:
    with tarfile.open(GOLDEN) as tar:
        (member,) = [member for member in tar.getmembers() if member.name.partition("/")[2] == name]
        return tar.extractfile(member).read()


def open_release(changed: str) -> Callable[[Path], Iterator[Door]]:
    """Return an `open_door` that puts bytes into a release, makes every manifest fit them, and opens it."""

    def open_door(folder: Path) -> Iterator[Door]:
        bundle = archive.unpack(GOLDEN, folder).folder
        path = bundle / changed
        inner = next(
            (bundle / part for part in ("variants/static", "evidence/catalog") if changed.startswith(part)), None
        )

        def door(data: bytes) -> object:
            path.write_bytes(data)
            if inner:
                small_release.refit(inner)
            if changed != contract.NAME:  # its content's digest; what else it says may differ
                small_release.seal(bundle)
            else:
                small_release.refit(bundle)
            return Bundle.load(bundle).open()

        yield door

    return open_door


def sealed_manifest(folder: Path) -> Iterator[Door]:
    """Give a changed manifest the digest that fits it."""

    def door(data: bytes) -> object:
        with suppress(ValueError, RecursionError, AttributeError, TypeError):
            body = json.loads(data)
            body.pop("digest", None)
            body["digest"] = hashlib.sha256(manifest.canonical(body)).hexdigest()
            data = manifest.canonical(body)
        (folder / manifest.NAME).write_bytes(data)
        return manifest.verify(folder)

    yield door


def open_signed(changed: str) -> Callable[[Path], Iterator[Door]]:
    """Return an `open_door` that puts bytes into a release's signature, and verifies it."""

    def open_door(folder: Path) -> Iterator[Door]:
        bundle, signer = _sign(folder)
        path = signature.folder_of(bundle) / changed

        def door(data: bytes) -> object:
            path.write_bytes(data)
            return signature.verify(bundle, signer, body=manifest.read(bundle))

        yield door

    return open_door


@cache
def read_signed(changed: str) -> bytes:
    """Return a file of a release's signature."""
    with tempfile.TemporaryDirectory() as folder:
        return (signature.folder_of(_sign(Path(folder))[0]) / changed).read_bytes()


@cache
def _make_keys() -> tuple[Path, Path]:
    return generate_key_pair(Path(tempfile.mkdtemp()) / "release.key")


def _sign(folder: Path) -> tuple[Path, Key]:
    bundle = archive.unpack(GOLDEN, folder)
    private, public = _make_keys()
    out = signature.folder_of(bundle.folder)
    out.mkdir()
    statement = build_statement(bundle, "0" * 40, "", "urn:test:builder")
    KeyPairSigner(private).prepare()(bundle.folder, statement, out)
    return bundle.folder, Key(public)


def encode(changed: str) -> Callable[[Path], Iterator[Door]]:
    """Return an `open_door` that puts bytes into a variant, opens it and encodes a text."""

    def open_door(folder: Path) -> Iterator[Door]:
        variant = tiny_static.write_variant(folder / "variant")

        def door(data: bytes) -> object:
            (variant / changed).write_bytes(data)
            return open_variant(variant).encode(["Starts a job; 模型 Über"])

        yield door

    return open_door


@cache
def read_variant(name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return (tiny_static.write_variant(Path(folder) / "variant") / name).read_bytes()


def open_graph(folder: Path) -> Iterator[Door]:
    """Put bytes in the place of a graph whose weights stand beside it, and open the variant."""
    variant = tiny_graph.write_variant(folder / "variant")

    def door(data: bytes) -> object:
        (variant / tiny_graph.GRAPH).write_bytes(data)
        return open_variant(variant)

    yield door


@cache
def read_graph() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return (tiny_graph.write_variant(Path(folder) / "variant") / tiny_graph.GRAPH).read_bytes()


def unpack(folder: Path) -> Iterator[Door]:
    def door(data: bytes) -> object:
        (folder / "it.tar").write_bytes(data)
        before = {path.name for path in folder.iterdir()}
        try:
            return archive.unpack(folder / "it.tar", folder / "into")
        finally:
            assert {path.name for path in folder.iterdir()} <= before | {"into"}, "something lies outside"
            shutil.rmtree(folder / "into", ignore_errors=True)

    yield door


def write_tars() -> tuple[bytes, ...]:
    """Return tars of a bundle's layout with two small files, in three formats."""
    tars = []
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=form) as tar:
            for name, content in {
                "it/manifest.json": b"{}",
                "it/模型.txt" if form != tarfile.USTAR_FORMAT else "it/a": b"x" * 600,
            }.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        tars.append(file.getvalue())
    return tuple(tars)


def in_store(key: str, read: Callable[[FileStore], object]) -> Callable[[Path], Iterator[Door]]:
    return in_folder(key, lambda folder: read(FileStore(folder)))


def write_channel() -> bytes:
    channel = None
    for action, digit in (("promote", "a"), ("promote", "b"), ("rollback", "a")):
        channel = append_move(channel, "stable", action, digit * 64, "2026-11-27T10:00:00Z", digit * 32, None)
    return channel.dump()


def list_history(store: FileStore) -> object:
    return [load_channel(store, name) for name in list_channels(store)]


STORED = read_golden("manifest.json")
STORED_DIGEST = json.loads(STORED)["digest"]
