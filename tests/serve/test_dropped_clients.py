"""Requests whose client has left are not computed."""

import json
import select
import socket
import time

import psutil
from embed_foundry import open_bundle

MODEL = "onnx_fp32"
WORDS = ["region", "bucket", "object", "policy", "version", "key", "list", "delete", "upload", "copy"]


def send(service, path, body):
    """Send a request and return its open connection."""
    host, port = service.url.removeprefix("http://").split(":")
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    connection = socket.create_connection((host, int(port)), timeout=20)
    connection.sendall(head.encode() + b"\r\n\r\n" + content)
    return connection


def make_texts(number, count):
    """Return different texts, so that no cache has them."""
    return [f"{WORDS[row % 10]} {WORDS[row // 10 % 10]} {row} {number}" for row in range(count)]


def read_cpu(service):
    """Return the CPU seconds that the service has used."""
    process = psutil.Process(service.process.pid)
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def test_requests_whose_client_left_are_not_computed(service, released):
    encoder = open_bundle(released.folder, MODEL)
    encoder.encode(["a"])
    started = time.process_time()
    encoder.encode(make_texts(9, 100), batch_size=1)
    each_s = (time.process_time() - started) / 100
    count = min(2000, int(6 / each_s))  # six seconds of one CPU a request
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
    before = used = read_cpu(service)
    while True:  # a busy machine may give it little time
        time.sleep(1)
        if (now := read_cpu(service)) - used < 0.05:
            break
        used = now
    assert used - before < 3, "each of the three would take six"
    assert service.client.post("/v1/embeddings", json={"input": "a", "model": MODEL}).status_code == 200
