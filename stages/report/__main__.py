"""`python -m stages.report`: write the report and print its verdict table, the build's visible result."""

import sys
from pathlib import Path

from stages import report
from stages.common import catalog, config
from stages.common.artifact import run_stage


def _main() -> None:
    params = config.load()
    variants = catalog.listed(Path("catalog"), Path("variants"))
    quality, latency, gate, out = (Path(name) for name in ("quality", "latency", "gate", "report"))
    table = report.run(params.model, params.target.name, variants, quality, latency, gate, out)
    sys.stdout.buffer.write(f"\n{table}".encode())  # not print: a message in it may not fit the terminal's encoding


if __name__ == "__main__":
    run_stage(_main)
