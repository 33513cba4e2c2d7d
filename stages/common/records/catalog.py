"""catalog/catalog.json: which variants make up this release candidate, by digest."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from embed_foundry import manifest
from embed_foundry.errors import IntegrityError

from stages.common.records.base import MappingRecord


class Catalog(MappingRecord[dict[str, str]]):
    """catalog/catalog.json: variant -> digest of its manifest."""

    FILE: ClassVar[str] = "catalog.json"
    stage: ClassVar[str] = "catalog"
    root: dict[str, str]


def load_catalogued_variants(catalog: Path, variants: Path) -> dict[str, Path]:
    """Return name -> folder of every catalogued variant, in the catalog's order.

    Args:
        catalog: the catalog stage's folder.
        variants: the folder that holds one folder per variant.

    Raises:
        IntegrityError: the catalog changed, or a variant on disk is not the one that was catalogued.
    """
    manifest.verify(catalog)
    digests = Catalog.load(catalog / Catalog.FILE).root
    for name, digest in digests.items():
        if (actual := manifest.read(variants / name).digest) != digest:
            raise IntegrityError(
                f"{variants / name}: has digest {actual}, the catalog lists {digest}. "
                f"Next: dvc repro convert@{name} catalog."
            )
    return {name: variants / name for name in digests}


def require_measured(evidence: Path, folders: Mapping[str, Path]) -> None:
    """Check that a stage measured exactly these variants: figures of other bytes do not count.

    Args:
        evidence: the stage's folder; the inputs in its manifest name variants as "variants/NAME".
        folders: name -> folder of every catalogued variant, as `load_catalogued_variants` returns them.

    Raises:
        IntegrityError: other bytes of a variant were measured, or the variant was not measured.
    """
    inputs = manifest.read(evidence).inputs
    for name, folder in folders.items():
        actual, expected = inputs.get(f"variants/{name}"), manifest.read(folder).digest
        if actual != expected:
            raise IntegrityError(
                f"{evidence}: measured {name} with digest {actual}, the catalog lists {expected}. "
                f"Next: dvc repro {evidence.name}, then gate."
            )
