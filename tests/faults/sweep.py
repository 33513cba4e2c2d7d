"""Publishes over and over, each time killed (SIGKILL) before one further file-system call, until one run ends whole.

`sweep.py FOLDER fresh|replace` prints one JSON line a run: what was left, and what a failing and then a plain run made
of it.
"""

import contextlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path

from embed_foundry import IntegrityError, manifest
from writer import write

from stages.common.contract.output import stage_output

OLD, NEW = 10, 20  # bytes, so that the two outputs differ
CALLS = ("open", "os.", "shutil.", "fcntl.", "writer.")


def sweep(folder: Path, *, replace: bool) -> None:
    """Print one line for each point of the publication at which it was killed."""
    at, killed = 0, True
    while killed:
        out = folder / "out"
        shutil.rmtree(folder, ignore_errors=True)
        if replace:
            _fork(lambda: write(out, OLD))  # noqa: B023 - runs at once
        killed = _fork(lambda: _dies_before(at, out))  # noqa: B023
        left = _state(out)
        _fork(lambda: _fails(out))  # noqa: B023
        kept = _state(out)
        _fork(lambda: write(out, NEW))  # noqa: B023
        litter = sorted(path.name for path in folder.iterdir() if path.name not in ("out", ".out.lock"))
        told = {"at": at, "killed": killed, "left": left, "kept": kept, "again": _state(out), "litter": litter}
        print(json.dumps(told))
        at += 1


def _fails(out: Path) -> None:
    with contextlib.suppress(RuntimeError), stage_output(out, stage="writer", parameters={}, inputs={}):
        raise RuntimeError


def _dies_before(at: int, out: Path) -> None:
    calls = iter(range(sys.maxsize))

    def hook(event: str, _: object) -> None:
        if event.startswith(CALLS) and next(calls) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    write(out, NEW)


def _fork(run) -> bool:
    """Run in a process of its own and return whether that was killed."""
    if (child := os.fork()) == 0:
        run()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status):
        sys.exit(f"a publication failed with {os.WEXITSTATUS(status)}")
    return os.WIFSIGNALED(status)


def _state(out: Path) -> str:
    if not out.exists():
        return "absent"
    try:
        return {OLD: "old", NEW: "new"}[manifest.verify(out).parameters["size"]]
    except IntegrityError as error:
        return f"broken: {error}"


if __name__ == "__main__":
    sweep(Path(sys.argv[1]), replace=sys.argv[2] == "replace")
