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
    settings = params.finetune
    if not isinstance(settings, FinetuneSettings) or sys.argv[1:] != settings.runs:
        raise InputError(f"finetune: params.yaml has the runs {settings.runs}, not {sys.argv[1:]}. Use dvc repro.")
    out = Path("finetune", settings.method)
    report = finetune.run(settings, params.model, Path("models/base"), Path("data"), out)
    figures = ", ".join(f"{name} {value:g}" for name, value in report.speed.figures.items())
    sys.stderr.write("\n".join([*report.notes, f"measured: {figures}", ""]))


if __name__ == "__main__":
    run_stage(_main)
