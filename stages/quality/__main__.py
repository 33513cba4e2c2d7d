"""`python -m stages.quality`."""

import os
from pathlib import Path

from stages import quality
from stages.common import config
from stages.common.contract.process import run_stage
from stages.common.records.catalog import load_catalogued_variants


def _main() -> None:
    # mteb and datasets would draw their own bars inside ours.
    os.environ |= {"TQDM_DISABLE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    params = config.load()
    quality.run(
        params.quality,
        load_catalogued_variants(Path("catalog"), Path("variants")),
        params.baseline,
        params.model.matryoshka,
        data=Path("data"),
        out=Path("quality"),
        cache=Path(".cache/quality"),
        engine=params.engine,
    )


if __name__ == "__main__":
    run_stage(_main)
