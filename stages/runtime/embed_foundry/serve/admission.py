"""Who may ask, and how much at once: bearer keys, and requests of one client at the same time."""

import hashlib
import hmac
import ipaddress
import threading
import time
from collections import Counter
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import InputError
from .doors.places import find_dialect
from .refusals import TOO_MANY_REQUESTS, UNAUTHORIZED, RefusalError
from .settings import Settings

# What an orchestrator, a scraper or a browser asks without a key; none of it holds a client's text or a vector.
OPEN = frozenset({"/livez", "/readyz", "/health", "/metrics", "/"})
BEARER = "bearer "
# Seconds between two looks at the file of keys.
LOOK_S = 1.0


class Keys:
    """The keys that are accepted; a key file is read again when it changes, so that keys rotate without a restart.

    Args:
        settings: `keys` and `key_file`.

    Raises:
        InputError: the file cannot be read, or has no key.
    """

    def __init__(self, settings: Settings) -> None:
        self._fixed = {_digest(key) for key in settings.keys}
        self._file = settings.key_file
        self._looked, self._changed = 0.0, 0
        self._from_file: set[bytes] = set()
        self._lock = threading.Lock()
        if self._file:
            self._from_file = _read_keys(self._file)
            self._changed = self._file.stat().st_mtime_ns
        self.required = bool(self._fixed or self._file)

    def accept(self, key: str) -> bool:
        """Return whether a key is one of them; the time that it takes says nothing about them."""
        self._look()
        digest = _digest(key)
        return sum(hmac.compare_digest(digest, known) for known in (*self._fixed, *self._from_file)) > 0

    def _look(self) -> None:
        with self._lock:
            if not self._file or time.monotonic() - self._looked < LOOK_S:
                return
            self._looked = time.monotonic()
            try:
                changed = self._file.stat().st_mtime_ns
                if changed != self._changed:
                    self._from_file, self._changed = _read_keys(self._file), changed
            except (OSError, InputError):  # it is being replaced; those read before stay
                return


class Admission:
    """ASGI middleware that admits requests before any of their body is read.

    Args:
        app: what answers.
        settings: `keys`, `key_file`, `max_client_requests`, `forwarded_by`.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._keys, self._most = Keys(settings), settings.max_client_requests
        self._proxies = [ipaddress.ip_network(network) for network in settings.forwarded_by]
        self._running: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it in the dialect of its path."""
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self.app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        key = _read_bearer(headers)
        if self._keys.required and not (key and self._keys.accept(key)):
            what = "the key is not accepted" if key else "a key is missing"
            refusal = RefusalError(UNAUTHORIZED, f"{what}; expected the header Authorization: Bearer KEY.")
            await find_dialect(scope["path"]).refuse(refusal)(scope, receive, send)
            return
        client = f"key {_digest(key).hex()[:16]}" if self._keys.required and key else self._find_address(scope, headers)
        if self._running[client] >= self._most:
            refusal = RefusalError(
                TOO_MANY_REQUESTS,
                f"{self._running[client]} requests of this client are running, and no more are taken. Wait for one.",
                retry_after_s=1.0,
            )
            await find_dialect(scope["path"]).refuse(refusal)(scope, receive, send)
            return
        self._running[client] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._running[client] -= 1
            if not self._running[client]:
                del self._running[client]

    def _find_address(self, scope: Scope, headers: dict[bytes, str]) -> str:
        """Return the client's address; a proxy's header counts only from the proxies that the settings name."""
        address = scope["client"][0] if scope.get("client") else ""
        for hop in reversed([part.strip() for part in headers.get(b"x-forwarded-for", "").split(",") if part.strip()]):
            if not self._is_proxy(address):
                break
            address = hop
        return address

    def _is_proxy(self, address: str) -> bool:
        try:
            return any(ipaddress.ip_address(address) in network for network in self._proxies)
        except ValueError:
            return False


def _read_bearer(headers: dict[bytes, str]) -> str:
    value = headers.get(b"authorization", "")
    return value[len(BEARER) :].strip() if value.lower().startswith(BEARER) else ""


def _digest(key: str) -> bytes:
    """Return the SHA-256 of a key, so that keys of any length compare in the same time."""
    return hashlib.sha256(key.encode()).digest()


def _read_keys(path: Path) -> set[bytes]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--key-file {path}: cannot be read ({error}).") from None
    keys = {_digest(line.strip()) for line in lines if line.strip() and not line.startswith("#")}
    if not keys:
        raise InputError(f"--key-file {path}: has no key. Write one a line, such as `openssl rand -hex 32` prints.")
    return keys
