"""`python -m stages.report`: write the report and print its verdict table, the build's visible result."""

from pathlib import Path

from stages import report
from stages.common import catalog, config
from stages.common.artifact import run_stage


def _main() -> None:
    params = config.load()
    variants = catalog.listed(Path("catalog"), Path("variants"))
    inputs = [Path(name) for name in ("quality", "latency", "gate")]
    print(report.run(params.model, params.target.name, variants, *inputs, Path("report")), end="")  # noqa: T201


if __name__ == "__main__":
    run_stage(_main)
