"""How a stage writes its output: verify inputs, write the folder whole (`embed_foundry.output`), manifest last."""

import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from embed_foundry import manifest
from embed_foundry.output.folder import atomic_folder

from stages.common.contract.owner import require_dvc


@contextmanager
def stage_output(
    out: Path,
    *,
    stage: str,
    parameters: Mapping[str, object],
    inputs: Mapping[str, Path],
    libraries: Sequence[str] = (),
    needs_bytes: int = 0,
) -> Iterator[Path]:
    """Yield an empty work folder that becomes `out`, complete and with a manifest, if the block ends without an error.

    Args:
        out: the output folder; what is there now is replaced.
        stage: the DVC stage's name, recorded so that later errors can name what to run again.
        parameters: the configuration that shaped the output; JSON values.
        inputs: name to folder; each is verified against its manifest and its digest recorded.
        libraries: distributions whose versions shape the bytes.
        needs_bytes: free disk space to require before the work starts.

    Raises:
        IntegrityError: an input folder differs from its manifest.
        RetryableError: another process is writing `out`, DVC has ended, or the disk is too small or fills up.
        InputError: `out` cannot be written.
    """
    digests = {name: manifest.verify(folder).digest for name, folder in inputs.items()}
    with atomic_folder(out, needs_bytes, partial(require_dvc, out)) as work:
        yield work
        versions = library_versions(libraries)
        manifest.write(work, {"stage": stage, "parameters": parameters, "inputs": digests, "libraries": versions})


def library_versions(libraries: Sequence[str]) -> dict[str, str]:
    """Return the installed version of each distribution."""
    return {name: importlib.metadata.version(name) for name in sorted(libraries)}


def folder_size(folder: Path) -> int:
    """Return the bytes of all files under a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
