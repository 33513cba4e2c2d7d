"""How a stage's process starts and ends: offline, the same file modes under every umask, a documented exit code."""

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

from embed_foundry.exits import exit_code


def run_stage(run: Callable[[], object], *, network: bool = False) -> None:
    """Run a stage's main body and exit with the documented code; SIGTERM cleans up like Ctrl-C.

    Args:
        run: the stage's main body; what it returns is ignored.
        network: whether the stage may contact the model hub; all others work on verified folders alone.
    """
    if not network:
        os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    if not sys.stderr.isatty():
        os.environ["TQDM_DISABLE"] = "1"  # libraries' bars fill a log; ours write plain lines
    signal.signal(signal.SIGTERM, _interrupt)
    # Outputs must not depend on who builds: the same modes under every umask.
    os.umask(0o022)

    def body() -> None:
        run()

    sys.exit(exit_code(body))


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
