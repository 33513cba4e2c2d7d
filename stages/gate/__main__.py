"""`python -m stages.gate`."""

from pathlib import Path

from stages import gate
from stages.common import config
from stages.common.contract.process import run_stage


def _main() -> None:
    params = config.load()
    folders = [Path(name) for name in ("catalog", "variants", "quality", "latency", "gate")]
    gate.run(params.target, params.gate, params.baseline, *folders)


if __name__ == "__main__":
    run_stage(_main)
