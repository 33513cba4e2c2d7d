"""`python -m stages.latency`: measure the variants of params.yaml on this machine."""

from pathlib import Path

from stages import latency
from stages.common import config
from stages.common.contract.process import run_stage
from stages.common.records.catalog import load_catalogued_variants
from stages.common.records.machine import Machine


def _main() -> None:
    params = config.load()
    latency.run(
        params.latency,
        load_catalogued_variants(Path("catalog"), Path("variants")),
        params.baseline,
        data=Path("data"),
        machine=Path(Machine.FILE),
        resources=params.target.resources,
        out=Path("latency"),
        providers=params.target.host.providers,
    )


if __name__ == "__main__":
    run_stage(_main)
