"""The base of the tests' HTTP servers: a free local port, one thread per request, no log."""

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Self


class LocalServer:
    """An HTTP server; use as a context manager. `url` has no slash at its end."""

    def __init__(
        self,
        answer: Callable[[BaseHTTPRequestHandler], None],
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Take a free port of a host, which may be IPv6; `answer` gets every request, whatever its method."""

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else each answer waits 40 ms for the client's acknowledgement

            def do_GET(self) -> None:
                answer(self)

            do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

            def handle_error(self, *_: object) -> None:  # a client that refuses the certificate, or was killed
                pass

        self._server = Server((host, 0), Handler)
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        authority = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if tls else 'http'}://{authority}:{self._server.server_port}"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def read_body(request: BaseHTTPRequestHandler) -> bytes:
    """Return the body of a request."""
    return request.rfile.read(int(request.headers.get("Content-Length") or 0))


def reply(
    request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], content: bytes, cut: int | None = None
) -> None:
    """Send an answer; with `cut`, close the connection after so many bytes of its content.

    Headers may declare another Content-Length, as answers to HEAD do.
    """
    request.send_response(status)
    for key, value in {"Content-Length": str(len(content)), **headers}.items():
        request.send_header(key, value)
    request.end_headers()
    if request.command != "HEAD":
        with suppress(ConnectionError):  # a client that was killed, or has read enough
            request.wfile.write(content[:cut])
    if cut is not None:
        request.close_connection = True
