"""The digest of everything that a cell depends on: the name of a finished cell in the cache."""

import hashlib
from dataclasses import asdict
from pathlib import Path

import embed_foundry
from embed_foundry import manifest
from embed_foundry.encoders.kinds import DISTRIBUTIONS, KINDS

from stages.common.contract.output import library_versions
from stages.common.records.tasks import TaskRecord
from stages.quality.cell import CellSettings

# Distributions that can change any score: what mteb scores with.
SCORING = ("mteb", "numpy", "pytrec-eval-terrier", "scikit-learn", "scipy", "torch")
# What the manifest records. A cell's digest has only those of its own kind: after a new OpenVINO, only the cells of
# OpenVINO variants are evaluated again.
LIBRARIES = tuple(sorted({*SCORING, *DISTRIBUTIONS}))
STAGES, RUNTIME = Path(__file__).parents[1], Path(embed_foundry.__file__).parent
# The code that shapes a cell: what evaluation.py imports (tests/test_map.py compares), and the encoders. A change of
# anything else leaves finished cells valid, which take hours for some models.
CODE = (
    *(STAGES / "quality" / f"{name}.py" for name in ("cell", "compatibility", "evaluation", "mteb_encoder")),
    *(STAGES / "quality" / f"{name}.py" for name in ("mteb_types", "samples", "task_data", "tasks")),
    *(STAGES / "common" / "records" / f"{name}.py" for name in ("base", "scores", "tasks")),
    *sorted((STAGES / "common" / "sources" / "suite_files").glob("*.py")),
    STAGES / "common" / "contract" / "tables.py",
    RUNTIME / "cpus.py",
    *sorted((RUNTIME / "encoders").glob("*.py")),
)


def cell_digest(variant: Path, kind: str, data: Path, task: TaskRecord, settings: CellSettings) -> str:
    """Return the SHA-256 of everything that a cell's content depends on.

    Args:
        variant: the variant's folder.
        kind: its kind; every library counts for an unknown one.
        data: the suite's folder.
        task: the task.
        settings: how the cell is evaluated.
    """
    parts = {
        "variant": manifest.read(variant).digest,
        "task": task.model_dump(mode="json"),
        "files": task_files(data, task),
        "settings": asdict(settings),
        "libraries": library_versions([*{*SCORING, *(KINDS[kind].distributions if kind in KINDS else DISTRIBUTIONS)}]),
        "code": code_digest(),
    }
    return hashlib.sha256(manifest.canonical(parts)).hexdigest()


def task_files(data: Path, task: TaskRecord) -> dict[str, str]:
    """Return the files of one task: name in the suite's folder -> SHA-256."""
    hashes = manifest.read(data).hashes
    return {name: digest for name, digest in hashes.items() if name.startswith(f"{task.name}/")}


def code_digest() -> str:
    """Return the SHA-256 of the code that evaluates cells: a cell of other code is another cell."""
    return hashlib.sha256("".join(manifest.sha256(path) for path in CODE).encode()).hexdigest()
