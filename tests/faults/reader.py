"""A stage that copies what `writer.py` wrote: `reader.py IN OUT`."""

import shutil
import sys
from pathlib import Path

from stages.common.contract.output import stage_output
from stages.common.contract.process import run_stage


def copy(source: Path, out: Path) -> None:
    """Verify a folder and copy its data."""
    with stage_output(out, stage="reader", parameters={}, inputs={"in": source}) as work:
        shutil.copyfile(source / "data", work / "data")


if __name__ == "__main__":
    run_stage(lambda: copy(Path(sys.argv[1]), Path(sys.argv[2])))
