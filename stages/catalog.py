"""catalog: the configured variants, by digest; the one thing that quality, latency and bundle depend on.

A DVC stage cannot depend on "all outputs of a foreach", and a dependency on variants/ would also hash folders left over
from an earlier choice. This stage reads exactly the variants in params.yaml, and removes the leftovers.

In: variants/. Out: catalog/catalog.json. Fails: 3 a variant is missing, differs from its manifest, or is another one
than its folder says.
"""

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from embed_foundry import IntegrityError, Variant, manifest

from stages.common import config
from stages.common.contract.output import stage_output
from stages.common.contract.process import run_stage
from stages.common.records.catalog import Catalog


def run(kinds: Mapping[str, str], variants: Path, out: Path) -> dict[str, str]:
    """Write the digest of every named variant and return them by name.

    Args:
        kinds: name -> kind of the configured variants.
        variants: the folder that holds one folder per variant; folders of variants not named are removed from it
            (DVC's cache keeps them).
        out: the catalog folder.

    Raises:
        IntegrityError: a named variant is missing, differs from its manifest, or its folder holds another variant, or
            one of another kind.
    """
    _remove_leftovers(kinds, variants)
    folders = {name: variants / name for name in kinds}
    with stage_output(out, stage="catalog", parameters={}, inputs=folders) as work:
        for name, folder in folders.items():
            _require_variant(folder, name, kinds[name])
        digests = {name: manifest.read(folder).digest for name, folder in folders.items()}
        (work / Catalog.FILE).write_bytes(Catalog(digests).dump())
    return digests


def _remove_leftovers(names: Collection[str], variants: Path) -> None:
    """Remove variants that are not named; hidden folders belong to conversions that are running."""
    for path in sorted(variants.glob(f"[!.]*/{manifest.NAME}")):
        if path.parent.name not in names:
            shutil.rmtree(path.parent)


def _require_variant(folder: Path, name: str, kind: str) -> None:
    """Check that a folder holds the variant of its name: its manifest is intact in a copy of another variant, too."""
    variant = Variant.load(folder)
    if (variant.name, variant.kind) != (name, kind):
        raise IntegrityError(
            f"{folder}: holds the variant {variant.name} of kind {variant.kind}, expected {name} of kind {kind}. "
            f"Next: dvc repro convert@{name}."
        )


def _main() -> None:
    recipes = config.load().variants
    run({name: recipe.kind for name, recipe in recipes.items()}, Path("variants"), Path("catalog"))


if __name__ == "__main__":
    run_stage(_main)
