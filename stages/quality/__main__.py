"""`python -m stages.quality`."""

from pathlib import Path

from stages import quality
from stages.common import catalog, config
from stages.common.artifact import run_stage


def _main() -> None:
    params = config.load()
    quality.run(
        params.quality,
        catalog.listed(Path("catalog"), Path("variants")),
        params.model.matryoshka,
        data=Path("data"),
        out=Path("quality"),
        threads=params.target.resources.threads,
        cache=Path(".cache/quality"),
    )


if __name__ == "__main__":
    run_stage(_main)
