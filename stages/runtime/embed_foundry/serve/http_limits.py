"""Bounds on what comes before a request's body: uvicorn takes heads of any size, and waits for them without end."""

from asyncio import TimerHandle, Transport

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Of a request line with all headers that is not whole yet. nginx takes 32 KiB by default.
MOST_HEAD_BYTES = 64 << 10
# Seconds that a head may take, from the connection or from its first byte.
HEAD_S = 30.0


class BoundedHttp(HttpToolsProtocol):
    """HTTP/1.1 whose heads are bounded in bytes and in time. A body is bounded where it is read (doors/body.py)."""

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._head_bytes, self._reads_body = 0, False
        self._timer: TimerHandle | None = None
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._end_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived; a head that has grown too large ends the connection."""
        if not self._reads_body:
            self._head_bytes += len(data)
            self._start_timer()
        super().data_received(data)
        if not self._reads_body and self._head_bytes > MOST_HEAD_BYTES:
            self._refuse(f"The head of the request is larger than {MOST_HEAD_BYTES} bytes.")

    def on_headers_complete(self) -> None:
        """Take note that a body follows."""
        self._reads_body = True
        self._end_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Take note that another head may follow."""
        self._head_bytes, self._reads_body = 0, False
        super().on_message_complete()

    def _start_timer(self) -> None:
        self._timer = self._timer or self.loop.call_later(
            HEAD_S, self._refuse, f"The head of the request did not arrive within {HEAD_S:g} s."
        )

    def _end_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, message: str) -> None:
        self._end_timer()
        if not self.transport.is_closing():
            self.send_400_response(message)
