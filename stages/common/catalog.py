"""Reading catalog/: which variants make up this release candidate, by digest."""

import json
from pathlib import Path

from embed_foundry import manifest
from embed_foundry.errors import IntegrityError

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
    digests: dict[str, str] = json.loads((catalog / NAME).read_text(encoding="utf-8"))
    for name, digest in digests.items():
        if (found := manifest.read(variants / name)["digest"]) != digest:
            raise IntegrityError(
                f"{variants / name}: has digest {found}, the catalog lists {digest}. "
                f"Next: dvc repro convert@{name} catalog."
            )
    return {name: variants / name for name in digests}
