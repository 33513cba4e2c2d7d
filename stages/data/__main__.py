"""`python -m stages.data`."""

import os
from pathlib import Path

from stages import data
from stages.common import config
from stages.common.contract.process import run_stage


def _main() -> None:
    suite = config.load().suite
    if suite.source != "hub":
        os.environ["HF_HUB_OFFLINE"] = "1"  # before a library reads it: no other source may use the network
    data.run(suite, Path("data"))


if __name__ == "__main__":
    run_stage(_main, network=True)
