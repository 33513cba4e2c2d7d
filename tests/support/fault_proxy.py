"""An HTTP proxy in front of an S3 server that refuses, corrupts, cuts off, loses answers or stalls, as told."""

import http.client
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from threading import Event, Lock
from urllib.parse import urlsplit

from support.local_server import LocalServer, read_body, reply

ALWAYS = 10**9


@dataclass
class Fault:
    """One misbehaviour.

    Attributes:
        method: of the requests that it meets.
        path: what their path and query hold.
        times: how often, then the server behaves.
        status: answer so, with `code`, without asking the server; 0 is none of that.
        code: S3's error code.
        corrupt: flip a bit in the middle of the answer's body.
        cut: close the connection in the middle of the answer's body.
        lost: ask the server, and close the connection in place of its answer.
        pretend: answer 200 where the server refuses.
        stalled: set when a request came, which then waits for `go_on`.
    """

    method: str
    path: str = ""
    times: int = ALWAYS
    status: int = 0
    code: str = ""
    corrupt: bool = False
    cut: bool = False
    lost: bool = False
    pretend: bool = False
    stalled: Event | None = None
    go_on: Event | None = None


class FaultProxy(LocalServer):
    """The proxy; use in `with`. `hits` are the requests that came, `faults` may be changed at any time."""

    def __init__(self, endpoint: str) -> None:
        self.server_at = urlsplit(endpoint).netloc
        self.faults: list[Fault] = []
        self.hits: list[tuple[str, str]] = []
        self.lock = Lock()
        super().__init__(self.handle)

    def fault(self, method: str, path: str) -> Fault | None:
        """Write a request down and return the fault that meets it."""
        with self.lock:
            self.hits.append((method, path))
            for fault in self.faults:
                if fault.times > 0 and fault.method == method and fault.path in path:
                    fault.times -= 1
                    return fault
        return None

    def count(self, method: str, path: str) -> int:
        """Return how many requests of a kind came."""
        return sum(method == hit[0] and path in hit[1] for hit in self.hits)

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        """Pass one request on, and its answer back, as far as no fault prevents it."""
        sent = read_body(handler)
        fault = self.fault(handler.command, handler.path)
        if fault and fault.stalled and fault.go_on:
            fault.stalled.set()
            fault.go_on.wait(60)
        if fault and fault.status:
            body = f"<Error><Code>{fault.code}</Code><Message>told to</Message></Error>".encode()
            reply(handler, fault.status, {}, body)
            return
        upstream = http.client.HTTPConnection(self.server_at, timeout=60)
        # The signature covers the Host header, so it goes on as it came.
        headers = {key: value for key, value in handler.headers.items() if key.lower() != "expect"}
        upstream.request(handler.command, handler.path, sent, headers)
        got = upstream.getresponse()
        body = got.read()
        upstream.close()
        if fault and fault.lost:
            handler.close_connection = True
            return
        if fault and fault.pretend and got.status >= 400:
            reply(handler, 200, {"ETag": '"pretended"'}, b"")
            return
        if fault and fault.corrupt and body:
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        # The length in an answer to HEAD is another request's.
        own = {"transfer-encoding", "connection", "date", "server"}
        own |= set() if handler.command == "HEAD" else {"content-length"}
        answered = {key: value for key, value in got.getheaders() if key.lower() not in own}
        reply(handler, got.status, answered, body, len(body) // 2 if fault and fault.cut else None)


def wait_for(event: Event, seconds: float = 60) -> None:
    """Wait until an event is set, or fail."""
    end = time.monotonic() + seconds
    while not event.wait(0.1):
        assert time.monotonic() < end, "did not happen"
