"""machine: this machine's fingerprint, on which latency depends.

machine.json is an uncached, persisted output: absent in a fresh clone and therefore measured there, so that DVC's
run-cache never brings another machine's latency. `--refresh` is what `make` calls each time: it writes only if the
machine is another one than the file says.

In: this machine. Out: machine.json. Fails: 2 machine.json cannot be written.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from embed_foundry import manifest
from embed_foundry.errors import InputError

from stages.common.contract.process import run_stage
from stages.common.measure.host import digest, fingerprint

__all__ = ["digest", "fingerprint", "run"]

OUT = Path("machine.json")
REFRESH = "--refresh"


def run(out: Path, *, refresh: bool = False) -> dict[str, Any]:
    """Write the fingerprint as canonical JSON and return it.

    Args:
        out: the file.
        refresh: leave the file as it is, time stamps included, if it holds this very fingerprint.

    Raises:
        InputError: the file cannot be written.
    """
    found = fingerprint()
    if refresh and _known(out) == found:
        return found
    work = out.with_name(f".{out.name}.partial")
    try:
        with work.open("wb") as file:
            file.write(manifest.canonical(found))
            file.flush()
            os.fsync(file.fileno())
        work.replace(out)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}). Make it writable, run again.") from None
    return found


def _known(path: Path) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _main() -> None:
    if unknown := [argument for argument in sys.argv[1:] if argument != REFRESH]:
        raise InputError(f"machine: unknown arguments {unknown}; expected none or {REFRESH}.")
    run(OUT, refresh=REFRESH in sys.argv[1:])


if __name__ == "__main__":
    run_stage(_main)
