"""How a process ends: an expected error is one line on stderr and its documented exit code."""

import os
import sys
import warnings
from collections.abc import Callable

from .errors import FoundryError
from .system_errors import system_error

# 128 + SIGINT, what shells report of a program that Ctrl-C ended; and 128 + SIGPIPE, of one whose reader stopped early.
INTERRUPTED, UNREAD = 130, 141


def exit_code(run: Callable[[], int | None]) -> int:
    """Call `run` and return the process's exit code; an expected error becomes one line, never a traceback.

    What the operating system refuses is expected, whichever library meets it: a full disk, a read-only folder.
    """
    warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
    try:
        code = run() or 0
        sys.stdout.flush()
    except FoundryError as error:
        _drop_output()
        return _end_with(error)
    except KeyboardInterrupt:
        print("interrupted; no output is half-written", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        # With PYTHONUNBUFFERED, standard output holds nothing whose writing would fail again.
        unread = isinstance(_drop_output(), BrokenPipeError) or getattr(sys.stdout, "write_through", False)
        if unread and isinstance(error, BrokenPipeError):
            return UNREAD  # the reader stopped early, as `head` does
        if not (refused := system_error(error)):
            raise
        return _end_with(refused)
    return code


def _end_with(error: FoundryError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return error.code


def _drop_output() -> OSError | None:
    """Return why standard output cannot be written, if so, and send what it still holds nowhere.

    At exit, Python would try again and report an error of its own.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return error
    return None
