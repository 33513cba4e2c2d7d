"""Keeps a shelf supplied: asks again and again for a newer release, with growing waits while it cannot be had."""

import random
import threading
from contextlib import suppress

from ..errors import FoundryError
from ..system_errors import system_error
from .source import Supply

# Longest wait between two attempts that fail, in seconds; and how much of a wait is random, so that the replicas of a
# service do not ask a store that comes back all at once.
LONGEST_WAIT_S, JITTER = 300.0, 0.2


class Feeder:
    """Runs a supply in a thread of its own. What goes wrong is written to the shelf, where every process reads it.

    Args:
        supply: brings releases.
        poll_s: seconds between two looks.
    """

    def __init__(self, supply: Supply, poll_s: float) -> None:
        self._supply, self._poll_s = supply, poll_s

    def start(self) -> None:
        """Begin at once. The thread ends with the process, which waits for no attempt."""
        threading.Thread(target=self._run, name="feeder", daemon=True).start()

    def _run(self) -> None:
        wait_s = self._poll_s
        pause = threading.Event()
        while True:
            fault = self._find_fault()
            with suppress(OSError):  # a full disk
                self._supply.shelf.write_fault(fault)
            wait_s = min(2 * wait_s, max(LONGEST_WAIT_S, self._poll_s)) if fault else self._poll_s
            pause.wait(wait_s * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311

    def _find_fault(self) -> str:
        """Refresh, and return why that failed; "" if it did not."""
        try:
            self._supply.refresh()
        except FoundryError as error:
            return str(error)
        except Exception as error:
            # A store's library may raise anything, and a thread that ends would end the updates without a word.
            return str(system_error(error) or f"{type(error).__name__}: {error}")
        return ""
