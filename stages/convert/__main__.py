"""`python -m stages.convert NAME`: convert one variant of params.yaml."""

import sys
from pathlib import Path

from embed_foundry.errors import InputError

from stages import convert
from stages.common import config
from stages.common.contract.process import run_stage


def _main() -> None:
    params = config.load()
    name = sys.argv[1] if len(sys.argv) == 2 else ""
    if name not in params.variants:
        raise InputError(f"convert: expected one of {sorted(params.variants)}, got {sys.argv[1:]}.")
    weights = Path(params.finetune.weights)
    convert.run(name, params.variants[name], params.model, weights, Path("variants", name), cache=convert.CACHE)


if __name__ == "__main__":
    run_stage(_main)
