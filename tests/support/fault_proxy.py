"""An HTTP proxy in front of an S3 server that refuses, corrupts, cuts off, loses answers or stalls on demand."""

import http.client
import ssl
import time
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler
from threading import Event, Lock
from urllib.parse import urlsplit

from support.local_server import LocalServer, read_body, reply

ALWAYS = 10**9


@dataclass
class Fault:
    """One fault.

    Attributes:
        method: of the requests that it affects.
        path: what their path and query contain.
        header: a header that they have.
        times: how often; after that, requests pass.
        status: answer with this status and `code`, without contacting the server; 0 contacts it.
        code: S3's error code.
        message: S3's message.
        corrupt: flip a bit in the middle of the answer's body.
        cut: close the connection in the middle of the answer's body.
        lost: contact the server, then close the connection instead of answering.
        dropped: answer 200 without contacting the server.
        stuck: send half of the answer's body, then nothing, with the connection open, until `go_on`.
        pretend: answer 200 where the server refuses.
        stalled: set when a request arrives, which then waits for `go_on`.
    """

    method: str
    path: str = ""
    header: str = ""
    times: int = ALWAYS
    status: int = 0
    code: str = ""
    message: str = "injected"
    corrupt: bool = False
    cut: bool = False
    lost: bool = False
    dropped: bool = False
    stuck: bool = False
    pretend: bool = False
    stalled: Event | None = None
    go_on: Event | None = None


class FaultProxy(LocalServer):
    """The proxy; use in `with`. `hits` are the requests that arrived; `faults` may change at any time."""

    def __init__(self, endpoint: str, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.upstream = urlsplit(endpoint).netloc
        self.faults: list[Fault] = []
        self.hits: list[tuple[str, str]] = []
        self.lock = Lock()
        super().__init__(self.handle, host, tls)

    def record(self, method: str, path: str, headers: Message) -> Fault | None:
        """Record a request and return the fault that affects it."""
        with self.lock:
            self.hits.append((method, path))
            for fault in self.faults:
                fits = fault.method == method and fault.path in path and (not fault.header or fault.header in headers)
                if fault.times > 0 and fits:
                    fault.times -= 1
                    return fault
        return None

    def count(self, method: str, path: str) -> int:
        """Return how many such requests arrived."""
        return sum(method == hit[0] and path in hit[1] for hit in self.hits)

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        """Forward one request, and its answer, unless a fault prevents it."""
        sent = read_body(handler)
        fault = self.record(handler.command, handler.path, handler.headers)
        if fault and fault.stalled and fault.go_on:
            fault.stalled.set()
            fault.go_on.wait(60)
        if fault and fault.status:
            body = f"<Error><Code>{fault.code}</Code><Message>{fault.message}</Message></Error>".encode()
            reply(handler, fault.status, {}, body)
            return
        if fault and fault.dropped:
            reply(handler, 200, {"ETag": '"pretended"'}, b"")
            return
        upstream = http.client.HTTPConnection(self.upstream, timeout=60)
        # The signature covers the Host header, so it is forwarded unchanged.
        headers = {key: value for key, value in handler.headers.items() if key.lower() != "expect"}
        upstream.request(handler.command, handler.path, sent, headers)
        answer = upstream.getresponse()
        body = answer.read()
        upstream.close()
        if fault and fault.lost:
            handler.close_connection = True
            return
        if fault and fault.pretend and answer.status >= 400:
            reply(handler, 200, {"ETag": '"pretended"'}, b"")
            return
        if fault and fault.corrupt and body:
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        if fault and fault.stuck and fault.go_on:
            half = len(body) // 2
            reply(
                handler,
                answer.status,
                {"ETag": str(answer.getheader("ETag")), "Content-Length": str(len(body))},
                body[:half],
            )
            fault.go_on.wait(120)
            handler.close_connection = True
            return
        # An answer to HEAD has the length that GET would have.
        recomputed = {"transfer-encoding", "connection", "date", "server"}
        recomputed |= set() if handler.command == "HEAD" else {"content-length"}
        headers = {key: value for key, value in answer.getheaders() if key.lower() not in recomputed}
        reply(handler, answer.status, headers, body, len(body) // 2 if fault and fault.cut else None)


def wait_for(event: Event, seconds: float = 60) -> None:
    """Wait until an event is set, or fail."""
    deadline = time.monotonic() + seconds
    while not event.wait(0.1):
        assert time.monotonic() < deadline, "the event did not happen"
