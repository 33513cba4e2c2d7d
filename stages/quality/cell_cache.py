"""Finished cells on disk, by digest: a later run evaluates only the cells that it does not find here."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from embed_foundry import manifest
from embed_foundry.output.folder import replace_file

from stages.quality.cell import Cell


@dataclass(frozen=True)
class CellCache:
    """A folder of finished cells: DIGEST.json is a checksum and the cell, DIGEST.npz a retrieval cell's vectors."""

    folder: Path

    def load(self, digest: str) -> Cell | None:
        """Return a finished cell; None if there is none, or if its files are not what was written."""
        try:
            checksum, _, body = (self.folder / f"{digest}.json").read_bytes().partition(b"\n")
            if hashlib.sha256(body).hexdigest() == checksum.decode():
                cell = Cell.model_validate_json(body)
                if not cell.vectors or manifest.sha256(self.vectors_path(digest)) == cell.vectors:
                    return cell
        except (OSError, ValueError):
            pass
        return None

    def store(self, digest: str, cell: Cell) -> None:
        """Write a cell with its checksum, atomically. Its vectors must be at `vectors_path` already."""
        self.folder.mkdir(parents=True, exist_ok=True)
        body = cell.dump()
        replace_file(self.folder / f"{digest}.json", hashlib.sha256(body).hexdigest().encode() + b"\n" + body)

    def vectors_path(self, digest: str) -> Path:
        """Return where a retrieval cell's vectors are kept."""
        return self.folder / f"{digest}.npz"
