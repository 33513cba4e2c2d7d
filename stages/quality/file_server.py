"""Files for workers on other machines: each by its SHA-256, fetched once a worker, over Dask's own connections."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from embed_foundry import IntegrityError, manifest

if TYPE_CHECKING:
    from distributed import Security, Worker
    from distributed.core import Server

BLOCK_BYTES = 16 << 20


@dataclass(frozen=True)
class FolderContent:
    """A folder's files by their content.

    Attributes:
        files: relative POSIX name -> SHA-256.
        path: the folder on the machine that serves it.
    """

    files: Mapping[str, str]
    path: str

    @property
    def digest(self) -> str:
        """SHA-256 of names and contents: the folder's name on a worker."""
        return hashlib.sha256(manifest.canonical(dict(self.files))).hexdigest()


def variant_content(folder: Path) -> FolderContent:
    """Return the content of a variant's folder, its manifest included."""
    files = manifest.read(folder).hashes
    return FolderContent(files | {manifest.NAME: manifest.sha256(folder / manifest.NAME)}, str(folder))


class FileServer:
    """Serves the files of some folders, and nothing else, from `open` to `close`.

    Args:
        folders: what workers may fetch.
    """

    def __init__(self, folders: Sequence[FolderContent]) -> None:
        self.paths = {digest: Path(folder.path, name) for folder in folders for name, digest in folder.files.items()}
        self.server: Server | None = None

    async def open(self, address: str, security: "Security") -> str:
        """Listen, and return the address.

        Args:
            address: protocol://host:port; port 0 takes a free one.
            security: the Dask client's: workers reach this server as they reach the scheduler.
        """
        from distributed.core import Server

        self.server = Server({"read_block": self.read_block})
        await self.server.listen(address, **security.get_listen_args("client"))
        return str(self.server.address)

    async def close(self) -> None:
        """Stop listening."""
        if self.server is not None:
            await self.server.close()

    def read_block(self, digest: str, offset: int) -> bytes:
        """Return at most BLOCK_BYTES of a file; b"" at its end."""
        with self.paths[digest].open("rb") as file:
            file.seek(offset)
            return file.read(BLOCK_BYTES)


def verify_shared_folder(content: FolderContent, root: str) -> Path:
    """Return a folder on a disk that this worker shares with the driver, after checking its files.

    Args:
        content: the folder.
        root: where the folder that holds dvc.yaml lies on this worker.

    Raises:
        IntegrityError: a file is missing there, or is not the one that the driver has.
    """
    folder = Path(root, content.path)
    _verify_files(content, folder)
    return folder


def fetch_folder(content: FolderContent, address: str, store: Path, worker: "Worker") -> Path:
    """Return a folder on this worker, fetched from the driver unless it is there already.

    Args:
        content: the folder.
        address: the file server's.
        store: where this worker keeps fetched folders.
        worker: the Dask worker.

    Raises:
        IntegrityError: a fetched file is not the one that the driver has.
    """
    folder, partial = store / content.digest, store / f"{content.digest}.partial"
    if not folder.is_dir():
        shutil.rmtree(partial, ignore_errors=True)
        for name, digest in content.files.items():
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                while block := _fetch_block(worker, address, digest, file.tell()):
                    file.write(block)
        _verify_files(content, partial)
        partial.rename(folder)
    return folder


def _fetch_block(worker: "Worker", address: str, digest: str, offset: int) -> bytes:
    from distributed.utils import sync

    async def fetch() -> bytes:
        return bytes(await worker.rpc(address).read_block(digest=digest, offset=offset))

    return bytes(sync(worker.loop, fetch))


def _verify_files(content: FolderContent, folder: Path) -> None:
    for name, expected in content.files.items():
        path = folder / name
        if not path.is_file():
            raise IntegrityError(f"{path}: missing on this worker. Share the folder, or leave engine.shared out.")
        if (actual := manifest.sha256(path)) != expected:
            raise IntegrityError(f"{path}: has sha256 {actual} on this worker, expected {expected}.")
