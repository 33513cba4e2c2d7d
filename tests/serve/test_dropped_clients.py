"""Requests whose client has left are not computed: those who stay do not wait for them."""

import json
import select
import socket
import time

from embed_foundry import open_bundle

MODEL = "onnx_fp32"
WORDS = ["region", "bucket", "object", "policy", "version", "key", "list", "delete", "upload", "copy"]


def send(service, path, body):
    """Send a request and return its open connection."""
    host, port = service.url.removeprefix("http://").split(":")
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    connection = socket.create_connection((host, int(port)), timeout=20)
    connection.sendall(head.encode() + content)
    return connection


def make_texts(number, count):
    """Return different texts, so that no cache has them."""
    return [f"{WORDS[row % 10]} {WORDS[row // 10 % 10]} {row} {number}" for row in range(count)]


def test_those_who_stay_do_not_wait_for_those_who_left(service, released):
    encoder = open_bundle(released.folder, MODEL)
    started = time.perf_counter()
    encoder.encode(make_texts(9, 200), batch_size=1)
    each_s = (time.perf_counter() - started) / 200
    count = min(2000, int(4 / each_s))  # four seconds of work a request
    bodies = [
        ("/v1/embeddings", {"input": make_texts(0, count), "model": MODEL}),
        ("/api/embed", {"input": make_texts(1, count), "model": MODEL}),
        ("/embed", {"inputs": make_texts(2, count), "model": MODEL}),
    ]
    connections = [send(service, path, body) for path, body in bodies]
    time.sleep(1)
    readable, _, _ = select.select(connections, [], [], 0)
    assert not readable, "they should still be computed"
    for connection in connections:
        connection.close()
    started = time.perf_counter()
    answer = service.client.post("/v1/embeddings", json={"input": "who stays", "model": MODEL})
    assert answer.status_code == 200, answer.text
    assert time.perf_counter() - started < count * each_s, "the three requests together take three times that"
