"""catalog: the configured variants, by digest; the one thing that quality, latency and bundle depend on.

A DVC stage cannot depend on "all outputs of a foreach", and a dependency on variants/ would also hash folders left
over from an earlier choice. This stage reads exactly the variants in params.yaml, and removes what is left over.

In: variants/. Out: catalog/catalog.json. Fails: 3 a variant is missing or differs from its manifest.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from embed_foundry import manifest

from stages.common import config
from stages.common.contract.output import stage_output
from stages.common.contract.process import run_stage
from stages.common.records.catalog import Catalog


def run(names: Sequence[str], variants: Path, out: Path) -> dict[str, str]:
    """Write the digest of every named variant and return them by name.

    Args:
        names: the configured variants.
        variants: the folder that holds one folder a variant; folders of variants not named are removed from it
            (DVC's cache keeps them).
        out: the catalog folder.

    Raises:
        IntegrityError: a named variant is missing or differs from its manifest.
    """
    for found in sorted(variants.glob(f"[!.]*/{manifest.NAME}")):  # hidden folders belong to conversions that run
        if found.parent.name not in names:
            shutil.rmtree(found.parent)
    inputs = {name: variants / name for name in names}
    with stage_output(out, stage="catalog", parameters={}, inputs=inputs) as work:
        digests = {name: manifest.read(folder).digest for name, folder in inputs.items()}
        (work / Catalog.FILE).write_bytes(Catalog(digests).dump())
    return digests


if __name__ == "__main__":
    run_stage(lambda: run(list(config.load().variants), Path("variants"), Path("catalog")))
