"""HTTP sessions for huggingface_hub that retry politely, say so, and give up after a bounded time.

huggingface_hub's own retries do not cover 429, ignore Retry-After, cannot be configured, and end in an error about a
missing local file. Here urllib3 retries below it and ends in `HubUnavailable`, which huggingface_hub lets through.
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
QUIET_LOGGERS = ("huggingface_hub", "urllib3.connectionpool")


class HubUnavailable(Exception):  # noqa: N818 - a state, which the client turns into its own error
    """The server gave no good answer within all tries; the text is the last reason."""


class ReportedRetry(Retry):
    """Honours Retry-After up to `backoff_max` seconds, and reports each retry."""

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        """Return the seconds that the server asks to wait.

        Raises:
            HubUnavailable: they exceed the longest wait; an earlier request would fail again.
        """
        seconds = super().get_retry_after(response)
        if seconds and seconds > self.backoff_max:
            raise HubUnavailable(f"HTTP {response.status}, and it asks to wait {seconds:.0f} s")
        return seconds

    def increment(self, *args: Any, **kwargs: Any) -> "ReportedRetry":  # noqa: ANN401 - passed through
        """Count one failed try."""
        remaining = super().increment(*args, **kwargs)
        report(f"{_reason(kwargs.get('error'), kwargs.get('response'))}; {remaining.total} tries left")
        return remaining


class RetryAdapter(HTTPAdapter):
    """Raises `HubUnavailable` when all tries have failed."""

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:  # noqa: ANN401 - passed through
        """Send one request, with the adapter's retries."""
        try:
            return super().send(*args, **kwargs)
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.RetryError) as error:
            cause = error.args[0] if error.args else error
            raise HubUnavailable(_reason(getattr(cause, "reason", cause), None)) from None


@contextmanager
def retrying_sessions(attempts: int, wait_s: float, longest_wait_s: float) -> Iterator[None]:
    """Make huggingface_hub use such sessions, over plain HTTP, while the block runs.

    Args:
        attempts: tries of one request.
        wait_s: seconds before the second retry, doubled at each further one.
        longest_wait_s: longest single wait, in seconds.
    """

    def open_session() -> requests.Session:
        retry = ReportedRetry(
            attempts - 1, status_forcelist=TRANSIENT, backoff_factor=wait_s, backoff_max=longest_wait_s
        )
        session = requests.Session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, RetryAdapter(max_retries=retry))
        return session

    levels = {logger: logger.level for logger in map(logging.getLogger, QUIET_LOGGERS)}
    # Xet transfers have a client, retries and errors of their own; plain HTTP serves the same files.
    xet_disabled, constants.HF_HUB_DISABLE_XET = constants.HF_HUB_DISABLE_XET, True
    configure_http_backend(open_session)
    for logger in levels:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        configure_http_backend()
        constants.HF_HUB_DISABLE_XET = xet_disabled
        for logger, level in levels.items():
            logger.setLevel(level)


def report(text: str) -> None:
    """Print one line of progress to stderr."""
    print(f"hub: {text}", file=sys.stderr, flush=True)  # noqa: T201 - progress


def _reason(error: object, response: BaseHTTPResponse | None) -> str:
    """Return what went wrong, without addresses."""
    if response is not None:
        return f"HTTP {response.status}"
    return f"{type(error).__name__}: {str(error).partition('(Caused by')[0][:200]}"
