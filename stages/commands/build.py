"""build: `dvc repro`, alone in this clone; what `make` runs. Not a DVC stage.

It clears what killed stages left, refreshes machine.json, and afterwards puts real files in place of DVC's links in
release/, which is to be copied elsewhere. A clone without git (an unpacked archive) is first set up for that.

In: the repository. Out: the stages' outputs.
Fails: 75 another build, or DVC, runs in this clone; 255 a stage failed, as DVC says; 2 outside a repository.
"""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from embed_foundry import InputError, RetryableError
from embed_foundry.output import lock
from embed_foundry.output.leftovers import sweep

from stages import machine
from stages.common.records.machine import Machine

# DVC's folder of files that belong to this clone.
STATE = Path(".dvc/tmp")
RELEASE = Path("release")


def run(arguments: Sequence[str]) -> int:
    """Run `dvc repro` with the arguments and return its exit code.

    Raises:
        InputError: this is no repository of the build.
        RetryableError: another build, or DVC, runs here; the message says which process.
    """
    if not Path("dvc.yaml").is_file() or not Path(".dvc").is_dir():
        raise InputError(f"{Path.cwd()}: has no dvc.yaml; run this in the repository root.")
    STATE.mkdir(exist_ok=True)
    with lock.hold(STATE / "build.lock", Path.cwd(), "building here"):
        _require_alone()
        sweep(Path())
        machine.run(Path(Machine.FILE), refresh=True)
        if not any((folder / ".git").exists() for folder in (Path.cwd(), *Path.cwd().parents)):
            _dvc("config", "--local", "core.no_scm", "true")
        if code := _dvc("repro", *arguments):
            _require_alone()  # if that is why it failed, the message says so
            return code
        if any(path.is_symlink() for path in RELEASE.rglob("*")):
            return _dvc("unprotect", str(RELEASE))
    return 0


def _dvc(*arguments: str) -> int:
    """Run DVC, with this environment's Python for its stages, and return its exit code."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return subprocess.run([sys.executable, "-m", "dvc", *arguments], env=os.environ | {"PATH": path}).returncode


def _require_alone() -> None:
    """Check that no DVC process works in this clone.

    Raises:
        RetryableError: one does; the message says which.
    """
    for process, command in _list_writers() or _list_lock_holder():
        raise RetryableError(
            f"{Path.cwd()}: process {process} is building here ({command}). "
            "Wait until it ends, or end it, then run the same command again."
        )


def _list_writers() -> list[tuple[int, str]]:
    """Return the living processes, with their commands, that DVC's records show to write outputs here."""
    import psutil

    try:
        written = json.loads((STATE / "rwlock").read_text(encoding="utf-8")).get("write", {})
        writers = {(int(entry["pid"]), str(entry["cmd"])) for entry in written.values()}
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return []
    return sorted(writer for writer in writers if psutil.pid_exists(writer[0]))


def _list_lock_holder() -> list[tuple[str, str]]:
    """Return the process, if there is one, that holds DVC's lock of this clone."""
    try:
        with (STATE / "lock").open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return [(file.read().strip() or "unknown", "dvc")]
    except FileNotFoundError:
        pass
    return []
