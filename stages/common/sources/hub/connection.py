"""How to reach the hub."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Connection:
    """Settings of a connection. None takes huggingface_hub's own: HF_ENDPOINT, HF_HOME, HF_TOKEN, HF_HUB_OFFLINE.

    Attributes:
        endpoint: the hub's address.
        cache: folder of huggingface_hub's cache.
        token: access token; never printed.
        offline: use the cache only.
        attempts: tries of one request or one file before giving up.
        wait_s: seconds before the second try, doubled before each further one.
        longest_wait_s: longest single wait; if the hub asks for more, the client gives up at once.
        timeout_s: longest silence before an answer begins, in seconds.
    """

    endpoint: str | None = None
    cache: Path | None = None
    token: str | None = field(default=None, repr=False)
    offline: bool | None = None
    attempts: int = 6
    wait_s: float = 1.0
    longest_wait_s: float = 60.0
    timeout_s: float = 10.0

    def wait_before(self, tries: int) -> float:
        """Return the seconds to wait after so many failed tries, at least 1."""
        return min(self.wait_s * 2.0 ** (tries - 1), self.longest_wait_s)
