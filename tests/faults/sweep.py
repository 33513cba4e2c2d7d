"""Writes an output over and over, each time killed (SIGKILL) before a later file-system call, until one run ends.

`sweep.py FOLDER fresh|replace|rename` prints one JSON line a run: the output's state after the kill, after a run that
fails, and after a plain run. `rename` replaces as where a file system cannot exchange two folders.
"""

import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from embed_foundry import IntegrityError, manifest
from embed_foundry.output import folder
from writer import write

from stages.common.contract.output import stage_output

OLD, NEW = 10, 20  # bytes, so that the two outputs differ
CALLS = ("open", "os.", "shutil.", "fcntl.", "writer.")


def sweep(folder: Path, *, replace: bool) -> None:
    """Print one line for each file-system call of a write before which it was killed."""
    call, killed = 0, True
    while killed:
        out = folder / "out"
        shutil.rmtree(folder, ignore_errors=True)
        if replace:
            _run_forked(partial(write, out, OLD))
        killed = _run_forked(partial(_write_until_killed, call, out))
        after_kill = _read_state(out)
        _run_forked(partial(_fail, out))
        after_failure = _read_state(out)
        _run_forked(partial(write, out, NEW))
        report = {
            "call": call,
            "killed": killed,
            "after_kill": after_kill,
            "after_failure": after_failure,
            "after_retry": _read_state(out),
            "leftovers": sorted(path.name for path in folder.iterdir() if path.name not in ("out", ".out.lock")),
        }
        print(json.dumps(report))
        call += 1


def _fail(out: Path) -> None:
    with contextlib.suppress(RuntimeError), stage_output(out, stage="writer", parameters={}, inputs={}):
        raise RuntimeError


def _write_until_killed(call: int, out: Path) -> None:
    calls = iter(range(sys.maxsize))

    def hook(event: str, _: object) -> None:
        if event.startswith(CALLS) and next(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    write(out, NEW)


def _run_forked(run: Callable[[], object]) -> bool:
    """Run in a process of its own and return whether that was killed."""
    if (child := os.fork()) == 0:
        run()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status):
        sys.exit(f"a run failed with {os.WEXITSTATUS(status)}")
    return os.WIFSIGNALED(status)


def _read_state(out: Path) -> str:
    if not out.exists():
        return "absent"
    try:
        return {OLD: "old", NEW: "new"}[manifest.verify(out).parameters["size"]]
    except IntegrityError as error:
        return f"broken: {error}"


if __name__ == "__main__":
    if sys.argv[2] == "rename":
        folder.exchange = lambda _first, _second: False
    sweep(Path(sys.argv[1]), replace=sys.argv[2] != "fresh")
