"""`python -m stages.bundle`: assemble the release as params.yaml says."""

from pathlib import Path

from stages import bundle
from stages.common import config
from stages.common.contract.process import run_stage


def _main() -> None:
    params = config.load()
    folders = {name: Path(name) for name in ("catalog", "variants", "data", *bundle.EVIDENCE)}
    inputs = bundle.BundleInputs(**folders, weights=Path(params.finetune.weights), project=Path())
    bundle.run(params.model, params.target, inputs, Path("release"))


if __name__ == "__main__":
    run_stage(_main)
