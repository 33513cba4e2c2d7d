"""huggingface_hub's cache: what is in it, whether the bytes are right, and how wrong ones leave it.

A file of a commit, `snapshots/COMMIT/NAME`, links to `blobs/ETAG`; the ETag that the hub sends with a commit is the
SHA-256 of files in LFS, and git's SHA-1 of the others: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from embed_foundry import manifest
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.file_download import repo_folder_name

from stages.common.config import Model


@dataclass(frozen=True)
class Cache:
    """The cached files of one model at one commit.

    Attributes:
        model: whose files.
        folder: huggingface_hub's cache.
    """

    model: Model
    folder: Path

    def find(self, name: str) -> Path | None:
        """Return the path of a cached file, None if it is not there."""
        found = try_to_load_from_cache(self.model.repo, name, cache_dir=self.folder, revision=self.model.revision)
        return Path(found) if isinstance(found, str) else None

    def fault(self, name: str, path: Path) -> str | None:
        """Return what is wrong with the bytes of a cached file, None if they are right.

        Right are the pinned bytes; where there is no pin, those that the hub declared for the commit.
        """
        declared = path.resolve().name
        actual = manifest.sha256(path)
        if pin := self.model.files[name]:
            note = " (as the hub declares: the pin is another commit's)" if actual == declared else ""
            return None if actual == pin else f"has sha256 {actual}{note}; model.files pins {pin}"
        if re.fullmatch("[0-9a-f]{40}", declared):
            actual = _git_sha1(path)
        elif not re.fullmatch("[0-9a-f]{64}", declared):
            return f"has no digest to check by: no pin in model.files, and the hub's ETag is {declared!r}"
        return None if actual == declared else f"has digest {actual}; the hub declares {declared}"

    def remove(self, path: Path) -> None:
        """Remove a file: its name in the snapshot, and the blob that it links to."""
        blob = path.resolve()
        path.unlink()
        if blob.parent.name == "blobs":
            blob.unlink(missing_ok=True)

    def drop_partials(self) -> None:
        """Remove partial downloads of the model that cannot be continued: too long, or continued wrongly."""
        blobs = self.folder / repo_folder_name(repo_id=self.model.repo, repo_type="model") / "blobs"
        for path in blobs.glob("*.incomplete"):
            path.unlink(missing_ok=True)


def _git_sha1(path: Path) -> str:
    """Return git's name of a file's bytes: SHA-1 over a header with the size, and the bytes."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
