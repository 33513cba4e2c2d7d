"""`python -m stages.report`: write the report and print its verdict table, the build's visible result."""

import sys
from pathlib import Path

from stages import report
from stages.common import config
from stages.common.contract.process import run_stage
from stages.common.records.catalog import load_catalogued_variants


def _main() -> None:
    params = config.load()
    variants = load_catalogued_variants(Path("catalog"), Path("variants"))
    quality, latency, gate, out = (Path(name) for name in ("quality", "latency", "gate", "report"))
    table = report.run(params.model, params.target.name, variants, quality, latency, gate, out)
    sys.stdout.buffer.write(f"\n{table}".encode())  # not print: a message in it may not fit the terminal's encoding


if __name__ == "__main__":
    run_stage(_main)
