"""Files for workers on other machines: each by its SHA-256, asked for once a worker, over Dask's own connections."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embed_foundry import IntegrityError, manifest

BLOCK = 16 << 20


@dataclass(frozen=True)
class Tree:
    """A folder by its content.

    Attributes:
        files: relative POSIX name -> SHA-256.
        path: the folder on the side that serves.
    """

    files: Mapping[str, str]
    path: str

    @property
    def digest(self) -> str:
        """Return the digest of names and contents: the folder's name on a worker."""
        return hashlib.sha256(manifest.canonical(dict(self.files))).hexdigest()


def variant(folder: Path) -> Tree:
    """Return a variant's tree, its manifest included."""
    files = manifest.read(folder).hashes
    return Tree(files | {manifest.NAME: manifest.sha256(folder / manifest.NAME)}, str(folder))


class Depot:
    """Serves the files of some trees, and nothing else, for as long as it is open.

    Args:
        trees: what workers may ask for.
    """

    def __init__(self, trees: Sequence[Tree]) -> None:
        self.places = {digest: Path(tree.path, name) for tree in trees for name, digest in tree.files.items()}
        self.server: Any = None

    async def open(self, address: str, security: Any) -> str:  # noqa: ANN401
        """Listen and return where.

        Args:
            address: protocol://host:port; port 0 takes a free one.
            security: Dask's, of the client: workers reach the depot as they reach the scheduler.
        """
        from distributed.core import Server

        self.server = Server({"block": self.block})
        await self.server.listen(address, **security.get_listen_args("client"))
        return str(self.server.address)

    async def close(self) -> None:
        """Stop listening."""
        if self.server is not None:
            await self.server.close()

    def block(self, digest: str, offset: int) -> bytes:
        """Return at most BLOCK bytes of a file; b"" at its end."""
        with self.places[digest].open("rb") as file:
            file.seek(offset)
            return file.read(BLOCK)


def shared(tree: Tree, root: str) -> Path:
    """Return the tree's folder on a disk that this worker shares.

    Args:
        tree: what is wanted.
        root: where the folder that holds dvc.yaml lies on this worker.

    Raises:
        IntegrityError: a file is missing there, or not what its digest says.
    """
    folder = Path(root, tree.path)
    _check(tree, folder)
    return folder


def fetched(tree: Tree, address: str, store: Path, worker: Any) -> Path:  # noqa: ANN401 - Dask has no types
    """Return the tree's folder on this worker, copied from the depot unless it is there already.

    Args:
        tree: what is wanted.
        address: of the depot.
        store: where this worker keeps what it fetched.
        worker: the Dask worker.

    Raises:
        IntegrityError: a file is not what its digest says.
    """
    folder, part = store / tree.digest, store / f"{tree.digest}.partial"
    if not folder.is_dir():
        shutil.rmtree(part, ignore_errors=True)
        for name, digest in tree.files.items():
            path = part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                while block := _asked(worker, address, digest, file.tell()):
                    file.write(block)
        _check(tree, part)
        part.rename(folder)
    return folder


def _asked(worker: Any, address: str, digest: str, offset: int) -> bytes:  # noqa: ANN401
    from distributed.utils import sync

    async def block() -> bytes:
        return bytes(await worker.rpc(address).block(digest=digest, offset=offset))

    return bytes(sync(worker.loop, block))


def _check(tree: Tree, folder: Path) -> None:
    for name, digest in tree.files.items():
        path = folder / name
        if not path.is_file():
            raise IntegrityError(f"{path}: missing on this worker. Share the folder, or leave engine.shared out.")
        if (found := manifest.sha256(path)) != digest:
            raise IntegrityError(f"{path}: has sha256 {found} on this worker, expected {digest}.")
