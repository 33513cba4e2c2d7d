"""Reading catalog/: which variants make up this release candidate, by digest."""

from collections.abc import Mapping
from pathlib import Path

from embed_foundry import manifest
from embed_foundry.errors import IntegrityError

from stages.common.artifact import read_output

NAME = "catalog.json"


def listed(catalog: Path, variants: Path) -> dict[str, Path]:
    """Return name -> folder of every catalogued variant, in the catalog's order.

    Args:
        catalog: the catalog stage's folder.
        variants: the folder that holds one folder a variant.

    Raises:
        IntegrityError: the catalog changed, or a variant on disk is not the one that was catalogued.
    """
    manifest.verify(catalog)
    digests: dict[str, str] = read_output(catalog / NAME)
    for name, digest in digests.items():
        if (found := manifest.read(variants / name)["digest"]) != digest:
            raise IntegrityError(
                f"{variants / name}: has digest {found}, the catalog lists {digest}. "
                f"Next: dvc repro convert@{name} catalog."
            )
    return {name: variants / name for name in digests}


def require_measured(evidence: Path, folders: Mapping[str, Path]) -> None:
    """Check that a measuring stage measured exactly these variants: a verdict on other bytes is none.

    Args:
        evidence: the measuring stage's folder; its manifest's inputs name variants as "variants/NAME".
        folders: the catalogued variants, as `listed` gives them.

    Raises:
        IntegrityError: a variant was measured in other bytes, or not at all.
    """
    inputs = manifest.read(evidence)["inputs"]
    for name, folder in folders.items():
        found, expected = inputs.get(f"variants/{name}"), manifest.read(folder)["digest"]
        if found != expected:
            raise IntegrityError(
                f"{evidence}: measured {name} with digest {found}, the catalog lists {expected}. "
                f"Next: dvc repro {evidence.name}, then gate."
            )
