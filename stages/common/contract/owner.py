"""The DVC process that runs a stage. A stage whose DVC was killed stops, and writes nothing.

`kill -9` of DVC leaves the stage running. A second run may restore the stage's output from DVC's cache meanwhile; the
first stage would then replace it.
"""

import functools
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from embed_foundry import RetryableError

if TYPE_CHECKING:
    import psutil

POLL_S = 1.0


@functools.cache
def find_dvc() -> "psutil.Process | None":
    """Return the DVC process that started this stage; None if it was started without DVC."""
    import psutil

    if "DVC_STAGE" not in os.environ:  # which DVC sets for every command
        return None
    try:
        parent = psutil.Process().parent()
        return parent.parent() if parent and _is_shell(parent.cmdline()) else parent
    except psutil.Error:  # it ended this very moment
        return None


def stop_with_dvc() -> None:
    """Interrupt this process soon after its DVC has ended, as Ctrl-C would."""
    if dvc := find_dvc():
        threading.Thread(target=_wait_and_interrupt, args=(dvc,), daemon=True).start()


def require_dvc(out: Path) -> None:
    """Check that the DVC process of this stage, if there is one, still runs.

    Args:
        out: the output that is about to be replaced.

    Raises:
        RetryableError: it has ended, so that another run may have written the output.
    """
    if (dvc := find_dvc()) and not _is_alive(dvc):
        raise RetryableError(f"{out}: {_describe_end(dvc)}, so this stage writes nothing. Next: run `make` again.")


def _is_shell(command: list[str]) -> bool:
    """Return whether a command is the shell that DVC runs a stage's command by, unless it became the command."""
    return command[-2:-1] == ["-c"] and not Path(command[0]).name.startswith("python")


def _wait_and_interrupt(dvc: "psutil.Process") -> None:
    while _is_alive(dvc):
        time.sleep(POLL_S)
    sys.stderr.write(f"{_describe_end(dvc)}; this stage stops\n")
    os.kill(os.getpid(), signal.SIGTERM)


def _is_alive(dvc: "psutil.Process") -> bool:
    import psutil

    try:
        return dvc.is_running() and dvc.status() != psutil.STATUS_ZOMBIE  # killed, but its parent does not know yet
    except psutil.NoSuchProcess:
        return False


def _describe_end(dvc: "psutil.Process") -> str:
    return f"DVC (process {dvc.pid}) has ended"
