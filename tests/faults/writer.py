"""A stage that writes one file: `writer.py OUT BYTES [wait|deaf]`.

`wait`: stop halfway for a line on stdin. `deaf`: the same, and no signal interrupts it, as in a long call of a library.
"""

import signal
import sys
from pathlib import Path

from stages.common.contract.output import stage_output
from stages.common.contract.process import run_stage


def write(out: Path, size: int, *, wait: bool = False) -> None:
    """Write `size` bytes, in two halves; with `wait`, announce the first on stdout."""
    with (
        stage_output(out, stage="writer", parameters={"size": size}, inputs={}) as work,
        (work / "data").open("wb") as file,
    ):
        file.write(b"x" * (size // 2))
        file.flush()
        sys.audit("writer.half")
        if wait:
            print("half", flush=True)
            sys.stdin.readline()
        file.write(b"x" * (size - size // 2))


def _main() -> None:
    mode = "".join(sys.argv[3:])
    if mode == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    write(Path(sys.argv[1]), int(sys.argv[2]), wait=mode in ("wait", "deaf"))


if __name__ == "__main__":
    run_stage(_main)
