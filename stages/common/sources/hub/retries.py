"""huggingface_hub's HTTP client with retries that say so, honour Retry-After, and give up after a bounded time.

huggingface_hub retries some of its requests, with waits that cannot be set and warnings that repeat whole addresses.
Here the client below it retries; when it gives up it raises `HubUnavailable`, which huggingface_hub does not retry.
"""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
from huggingface_hub import set_client_factory
from huggingface_hub.utils import parse_ratelimit_headers
from huggingface_hub.utils._http import default_client_factory

from stages.common.sources.hub.connection import Connection

# All statuses that huggingface_hub would retry by itself: one that reached it would multiply the tries.
TRANSIENT = (408, 429, 500, 502, 503, 504)
# Their lines repeat whole addresses, and those of a file store carry signatures.
QUIET_LOGGERS = ("huggingface_hub", "httpx2", "httpcore2")


class HubUnavailable(Exception):  # noqa: N818 - a state, which HubClient turns into its own error
    """The server gave no good answer within all tries; the text is the last reason."""


class RetryingClient(httpx2.Client):
    """Retries requests without an answer, or with a transient one. Redirects are followed anew at each try.

    Args:
        connection: how often to try, and how long to wait.
        name: of the server, in lines about further tries.
    """

    def __init__(self, connection: Connection, name: str = "hub") -> None:
        super().__init__(follow_redirects=True, timeout=connection.timeout_s)
        self.connection, self.name = connection, name

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:  # noqa: ANN401 - passed through
        """Send one request, as often as the connection allows.

        Raises:
            HubUnavailable: all tries have failed, or the server asks for a longer wait than the connection allows.
        """
        for remaining in reversed(range(self.connection.attempts)):
            asked_s = None
            try:
                response = super().send(request, **options)
            except httpx2.UnsupportedProtocol:
                raise
            except httpx2.TransportError as error:
                reason = last_reason = f"{type(error).__name__}: {str(error)[:200]}"
            else:
                if response.status_code not in TRANSIENT:
                    return response
                response.close()
                asked_s = _requested_wait(response)
                reason, last_reason = f"HTTP {response.status_code}", f"too many {response.status_code} error responses"
            if asked_s and asked_s > self.connection.longest_wait_s:
                raise HubUnavailable(f"{reason}, and it asks to wait {asked_s:.0f} s")
            if remaining:
                report(f"{reason}; {remaining} tries left", self.name)
                time.sleep(asked_s or self.connection.wait_before(self.connection.attempts - remaining))
        raise HubUnavailable(last_reason)


@contextmanager
def retrying_client(connection: Connection) -> Iterator[None]:
    """Make huggingface_hub use such a client while the block runs."""
    levels = {logger: logger.level for logger in map(logging.getLogger, QUIET_LOGGERS)}
    set_client_factory(lambda: RetryingClient(connection))
    for logger in levels:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        set_client_factory(default_client_factory)
        for logger, level in levels.items():
            logger.setLevel(level)


def report(text: str, name: str = "hub") -> None:
    """Print one line of progress to stderr."""
    print(f"{name}: {text}", file=sys.stderr, flush=True)  # noqa: T201 - progress


def _requested_wait(response: httpx2.Response) -> float | None:
    """Return the seconds that a server asks to wait, None if it does not.

    Retry-After holds seconds or a date (RFC 9110, 10.2.3), which is compared with the server's own clock. Where the hub
    limits requests, it says when the limit ends: https://huggingface.co/docs/hub/rate-limits
    """
    if after := response.headers.get("Retry-After", "").strip():
        if after.isdigit():
            return float(after)
        try:
            now = _parse_date(response.headers["Date"]) if "Date" in response.headers else datetime.now(UTC)
            return max(0.0, (_parse_date(after) - now).total_seconds())
        except ValueError:
            return None
    limit = parse_ratelimit_headers(response.headers) if response.status_code == 429 else None
    return float(limit.reset_in_seconds) if limit and limit.remaining == 0 else None


def _parse_date(text: str) -> datetime:
    return parsedate_to_datetime(text).astimezone(UTC)
