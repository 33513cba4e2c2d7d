"""HTTP sessions for huggingface_hub that wait politely, say that they wait, and give up after a bounded time.

huggingface_hub's own retries do not cover 429, ignore Retry-After, cannot be configured, and end in an error that
speaks of a missing local file. Here urllib3 retries below it, and ends in `Unavailable`, which it passes through.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
from huggingface_hub import constants
from huggingface_hub.utils import configure_http_backend
from requests.adapters import HTTPAdapter
from urllib3 import BaseHTTPResponse, Retry

TRANSIENT = (429, 500, 502, 503, 504)
# Their warnings repeat whole addresses, and those of a file store carry signatures.
CHATTY = ("huggingface_hub", "urllib3.connectionpool")


class Unavailable(Exception):  # noqa: N818 - a state, which the hub turns into its own error
    """The server did not answer well within the patience there is; the text is the last reason."""


class Patience(Retry):
    """Honours Retry-After up to `backoff_max` seconds, and says aloud that it waits."""

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        """Return the seconds the server asks for.

        Raises:
            Unavailable: it asks for more than the longest wait; to ask again earlier would be no use.
        """
        asked = super().get_retry_after(response)
        if asked and asked > self.backoff_max:
            raise Unavailable(f"HTTP {response.status}, and it asks to wait {asked:.0f} s")
        return asked

    def increment(self, *args: Any, **kwargs: Any) -> "Patience":  # noqa: ANN401 - passed through
        """Count one failed try."""
        after = super().increment(*args, **kwargs)
        say(f"{_reason(kwargs.get('error'), kwargs.get('response'))}; {after.total} tries left")
        return after


class Adapter(HTTPAdapter):
    """Turns exhausted patience into `Unavailable`."""

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:  # noqa: ANN401 - passed through
        """Send one request, with the retries of the adapter's patience."""
        try:
            return super().send(*args, **kwargs)
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.RetryError) as error:
            cause = error.args[0] if error.args else error
            raise Unavailable(_reason(getattr(cause, "reason", cause), None)) from None


@contextmanager
def patient_sessions(attempts: int, wait_s: float, longest_wait_s: float) -> Iterator[None]:
    """Let huggingface_hub use such sessions, over plain HTTP, for as long as the block runs.

    Args:
        attempts: tries of one request.
        wait_s: seconds before the second retry, doubled at each further one.
        longest_wait_s: longest single wait, in seconds.
    """

    def session() -> requests.Session:
        patience = Patience(attempts - 1, status_forcelist=TRANSIENT, backoff_factor=wait_s, backoff_max=longest_wait_s)
        opened = requests.Session()
        for scheme in ("http://", "https://"):
            opened.mount(scheme, Adapter(max_retries=patience))
        return opened

    levels = {logger: logger.level for logger in map(logging.getLogger, CHATTY)}
    # Xet transfers have a client, retries and errors of their own; plain HTTP serves the same files.
    xet, constants.HF_HUB_DISABLE_XET = constants.HF_HUB_DISABLE_XET, True
    configure_http_backend(session)
    for logger in levels:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        configure_http_backend()
        constants.HF_HUB_DISABLE_XET = xet
        for logger, level in levels.items():
            logger.setLevel(level)


def say(text: str) -> None:
    """Print one line of progress."""
    print(f"hub: {text}", file=sys.stderr, flush=True)  # noqa: T201 - progress


def _reason(error: object, response: BaseHTTPResponse | None) -> str:
    """Return what went wrong, without addresses."""
    if response is not None:
        return f"HTTP {response.status}"
    return f"{type(error).__name__}: {str(error).partition('(Caused by')[0][:200]}"
