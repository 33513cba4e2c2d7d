"""`python -m stages.latency`: measure the variants of params.yaml on this machine."""

from pathlib import Path

from stages import latency
from stages.common import config
from stages.common.contract.process import run_stage
from stages.common.records.catalog import load_catalogued_variants


def _main() -> None:
    params = config.load()
    variants = load_catalogued_variants(Path("catalog"), Path("variants"))
    places = {"data": Path("data"), "machine": Path("machine.json"), "out": Path("latency")}
    latency.run(params.latency, variants, params.baseline, resources=params.target.resources, **places)


if __name__ == "__main__":
    run_stage(_main)
