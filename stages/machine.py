"""machine: this machine's fingerprint, on which latency depends.

machine.json is an uncached, persisted output: a fresh clone has none and therefore writes its own, so that DVC's
run-cache never brings another machine's latency. `make` calls this stage with `--refresh` each time, which writes only
if the file describes another machine.

In: this machine. Out: machine.json. Fails: 2 machine.json cannot be written.
"""

import sys
from pathlib import Path

from embed_foundry import IntegrityError
from embed_foundry.errors import InputError
from embed_foundry.output.folder import replace_file

from stages.common.contract.process import run_stage
from stages.common.measure.host import fingerprint_machine
from stages.common.records.machine import Machine

REFRESH = "--refresh"


def run(out: Path, *, refresh: bool = False) -> Machine:
    """Write this machine's fingerprint and return it.

    Args:
        out: the file.
        refresh: leave the file as it is, time stamps included, if it holds this very fingerprint.

    Raises:
        InputError: the file cannot be written.
    """
    machine = fingerprint_machine()
    if not (refresh and _load_if_valid(out) == machine):
        replace_file(out, machine.dump())
    return machine


def _load_if_valid(path: Path) -> Machine | None:
    """Return the fingerprint that a file holds; None if it holds none."""
    try:
        return Machine.load(path)
    except IntegrityError:
        return None


def _main() -> None:
    if unknown := [argument for argument in sys.argv[1:] if argument != REFRESH]:
        raise InputError(f"machine: unknown arguments {unknown}; expected none or {REFRESH}.")
    run(Path(Machine.FILE), refresh=REFRESH in sys.argv[1:])


if __name__ == "__main__":
    run_stage(_main)
