"""Heads of requests are bounded in bytes and in time; bodies and connections that stay open are not cut by it."""

import asyncio

import pytest
import uvicorn
from embed_foundry.serve import http_limits

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"


async def count_body(scope, receive, send):
    """Answer with the length of the body."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message["body"]), message["more_body"]
    length = str(size).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(length))]})
    await send({"type": "http.response.body", "body": length})


def talk(use):
    """Run a coroutine function with a connection to a server."""

    async def main():
        config = uvicorn.Config(count_body, http=http_limits.BoundedHttp, port=0, lifespan="off", log_level="error")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            return await asyncio.wait_for(use(reader, writer), 30)
        finally:
            writer.close()
            server.should_exit = True
            await serving

    return asyncio.run(main())


@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\nHost: a\r\nX-A: "], ids=["silence", "half a head"])
def test_a_head_that_does_not_come_is_refused(monkeypatch, start):
    monkeypatch.setattr(http_limits, "HEAD_S", 0.2)

    async def use(reader, writer):
        writer.write(start)
        return await reader.read()  # to the end: the server closes the connection

    answer = talk(use)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"did not arrive within 0.2 s" in answer


def test_a_head_without_end_is_refused():
    async def use(reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX-A: " + b"a" * 1_000_000)
        return await reader.read(4096)

    assert b"larger than 65536 bytes" in talk(use)


def test_a_slow_body_and_many_requests_on_a_connection_are_answered(monkeypatch):
    monkeypatch.setattr(http_limits, "HEAD_S", 0.3)

    async def use(reader, writer):
        answers = []
        for size in (5, 300_000, 0, 200_000):
            writer.write(HEAD % size + b"a" * (size // 2))
            await asyncio.sleep(0.4)
            writer.write(b"a" * (size - size // 2))
            head = await reader.readuntil(b"\r\n\r\n")
            answers.append((head[:15], int(await reader.read(100))))
        return answers

    assert talk(use) == [(b"HTTP/1.1 200 OK", size) for size in (5, 300_000, 0, 200_000)]
