"""`python -m stages.data`."""

from pathlib import Path

from stages import data
from stages.common import config
from stages.common.artifact import run_stage

if __name__ == "__main__":
    run_stage(lambda: data.run(config.load().suite, Path("data")))
