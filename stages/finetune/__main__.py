"""`python -m stages.finetune METHOD`: the fine-tuning of params.yaml."""

import sys
from pathlib import Path

from embed_foundry.errors import InputError

from stages import finetune
from stages.common import config
from stages.common.config.finetune import FinetuneSettings
from stages.common.contract.process import run_stage


def _main() -> None:
    params = config.load()
    training = params.finetune
    if not isinstance(training, FinetuneSettings) or sys.argv[1:] != training.runs:
        raise InputError(f"finetune: params.yaml has the runs {training.runs}, asked for {sys.argv[1:]}.")
    out = Path("finetune", training.method)
    report = finetune.run(training, params.model, Path("models/base"), Path("data"), out)
    measured = ", ".join(f"{name} {value:g}" for name, value in report["speed"].items())
    sys.stderr.write("\n".join([*report["words"], f"measured: {measured}", ""]))


if __name__ == "__main__":
    run_stage(_main)
