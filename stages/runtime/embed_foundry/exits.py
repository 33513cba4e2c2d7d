"""How a process ends: an expected error is one line on stderr and its documented exit code."""

import sys
import warnings
from collections.abc import Callable

from .errors import FoundryError

# 128 + SIGINT, what shells report of a program that Ctrl-C ended.
INTERRUPTED = 130


def exit_code(run: Callable[[], int | None]) -> int:
    """Call `run` and return the process's exit code; an expected error becomes one line, never a traceback."""
    warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
    try:
        return run() or 0
    except FoundryError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print("interrupted; no output is half-written", file=sys.stderr)
        return INTERRUPTED
