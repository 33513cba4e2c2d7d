"""How a stage's process starts and ends: offline, the same file modes under every umask, a documented exit code."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from embed_foundry.exits import exit_code
from embed_foundry.output.leftovers import sweep

from stages.common.contract.dvc_cache import trust_links
from stages.common.contract.owner import stop_with_dvc


def run_stage(run: Callable[[], object], *, network: bool = False) -> None:
    """Run a stage's main body and exit with the documented code.

    SIGTERM, a closed terminal and the end of DVC clean up like Ctrl-C.

    Args:
        run: the stage's main body; what it returns is ignored.
        network: whether the stage may contact the model hub; all others work on verified folders alone.
    """
    if not network:
        os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    # mteb makes this folder when it is imported; by default in the home folder, which may be read-only.
    os.environ.setdefault("MTEB_CACHE", str(Path(".cache", "mteb").absolute()))
    if not sys.stderr.isatty():
        os.environ["TQDM_DISABLE"] = "1"  # libraries' bars fill a log; ours write plain lines
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it
        signal.signal(signal.SIGHUP, _interrupt)
    # Outputs must not depend on who builds: the same modes under every umask.
    os.umask(0o022)

    def body() -> None:
        stop_with_dvc()
        trust_links()
        sweep(Path())
        run()

    sys.exit(exit_code(body))


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
