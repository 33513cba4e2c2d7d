"""Texts that people really send, and clients that mean harm or are slow: others are answered, memory stays bounded."""

import base64
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Self

import httpx2
import numpy as np
import pytest
from embed_foundry import open_bundle

from support.process_memory import PeakMemory
from support.served import serve
from support.served_releases import read_readiness

HOSTILE_KEY, POLITE_KEY = "hostile-0123456789abcdef", "polite-0123456789abcdef"
DEADLINE_S = 4
# What a service may take beside its models, in MiB: bodies, answers and queues of all its clients at once.
MOST_GROWN_MB = 400
QUESTIONS = [f"how do I list the {name} of my account?" for name in ("buckets", "queues", "keys", "roles", "tables")]
TEXTS = {
    "capitals": "HOW DO I LIST MY BUCKETS?",
    "over the limit": "the bucket of the account " * 300,
    "quoted special tokens": "[CLS] [SEP] [MASK] [PAD] [UNK] <s> </s> <bos> <eos> <pad> <|endoftext|> <image_token>",
    "Russian": "Как получить список моих корзин?",
    "Chinese": "如何列出我的存储桶?",
    "Japanese": "バケットを一覧表示するにはどうすればよいですか。",
    "Arabic and a number": "كيف أسرد 12 حاوية؟",
    "Thai without spaces": "ฉันจะแสดงรายการถังของฉันได้อย่างไร",
    "Hindi": "मैं अपनी बकेट कैसे सूचीबद्ध करूं?",
    "code fence": "```sh\n# a comment, no heading\naws s3 ls\n```\n",
    "front matter": "---\ntitle: Buckets\n---\n# Lists\n",
    "thinking": "<think>The user wants buckets.</think>How do I list them?",
    "JSON": '{"content": null, "input": ["a"]}',
    "lines": "one\r\ntwo\rthree\u2028four\x0bfive",
    "byte order mark": "\ufeffa bucket",
    "composed and decomposed": "Zürich Zu\u0308rich ﬁ ｆｕｌｌ",
    "zero widths": "b\u200bu\u200cc\u200dk\u2060et\u00ad",
    "right to left": "a\u202ebucket\u202c",
    "NUL and controls": "a\x00b\x01c\x1b[31m\x7f",
    "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 \U0001f9d1\U0001f3fd\u200d\U0001f680",
    "no characters": "\ufffe\uffff\U0010ffff\ue000",
    "marks": "b" + "\u0301" * 500,
    "one long word": "a" * 20_000,
    "many dots": "." * 20_000,
    "white space": " \t\u3000\u00a0\n",
    "markup": "<script>alert(1)</script> ' OR 1=1; -- ../../etc/passwd %00 ${jndi:ldap://a}",
}
POST = b"POST /embed HTTP/1.1\r\nHost: a\r\n"
GARBAGE = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no method": b"\x00\xff\xfe\r\n\r\n",
    "a negative length": POST + b"Content-Length: -1\r\n\r\n",
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
    "length and chunks": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n",
    "a chunk without end": POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}",
    "a huge header": b"GET /livez HTTP/1.1\r\nHost: a\r\nX-A: " + b"a" * 2_000_000 + b"\r\n\r\n",
    "many headers": b"GET /livez HTTP/1.1\r\nHost: a\r\n" + b"X-A: a\r\n" * 100_000 + b"\r\n",
    "a huge path": b"GET /" + b"a" * 2_000_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.fixture(scope="module")
def guarded(released, tmp_path_factory):
    """Return a service with keys, so that clients have limits of their own, and a short deadline."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "keys").write_text(f"{HOSTILE_KEY}\n{POLITE_KEY}\n")
    options = ("--key-file", folder / "keys", "--deadline-s", DEADLINE_S, "--max-client-requests", 48, "--cache-mb", 0)
    with serve(released.folder, folder, *map(str, options)) as running:
        running.client.headers["Authorization"] = f"Bearer {POLITE_KEY}"
        for model in ("onnx_int8", "static"):
            assert running.client.post("/embed", json={"inputs": "a", "model": model}).status_code == 200
        yield running


@dataclass
class Neighbour:
    """A client that asks short questions one after the other, and counts what is wrong about the answers."""

    service: object
    expected: dict[str, bytes]
    seconds: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        asked = 0
        with httpx2.Client(base_url=self.service.url, timeout=60) as client:
            while not self._ended.wait(0.02) or asked < 3:
                text = QUESTIONS[asked % len(QUESTIONS)]
                asked, started = asked + 1, time.perf_counter()
                try:
                    vector = embed(client, text, key=POLITE_KEY)
                except (AssertionError, httpx2.HTTPError) as error:
                    self.faults.append(repr(error))
                    continue
                self.seconds.append(time.perf_counter() - started)
                if vector != self.expected[text]:
                    self.faults.append(f"another vector of {text!r}")

    def require_unharmed(self) -> None:
        assert self.faults == []
        assert len(self.seconds) >= 3
        assert max(self.seconds) < 2 * DEADLINE_S, "it was answered, but late"  # in the queue, and on the way


@pytest.fixture
def unharmed(guarded, released):
    """Watch a neighbour, the service's memory and its readiness while a test runs; all three must stay well."""
    encoder = open_bundle(released.folder, "onnx_int8")
    neighbour = Neighbour(guarded, {text: encoder.encode([text])[0].tobytes() for text in QUESTIONS})
    with PeakMemory(guarded.process.pid) as memory, neighbour:
        yield
    neighbour.require_unharmed()
    assert memory.grown_mb < MOST_GROWN_MB
    assert read_readiness(guarded.url)[0] == 200
    assert "Traceback" not in guarded.log.read_text()


def embed(client, text, model="onnx_int8", key=POLITE_KEY) -> bytes:
    """Return the bytes of a text's vector."""
    body = {"input": text, "model": model, "encoding_format": "base64"}
    answer = client.post("/v1/embeddings", json=body, headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200, answer.text
    return base64.b64decode(answer.json()["data"][0]["embedding"])


def post_all(service, bodies, path="/embed", clients=32):
    """Send bodies by many clients at once; return the statuses and how often each came."""

    def post(body: bytes) -> int:
        headers = {"Authorization": f"Bearer {HOSTILE_KEY}", "Content-Type": "application/json"}
        return httpx2.post(service.url + path, content=body, headers=headers, timeout=60).status_code

    with ThreadPoolExecutor(clients) as pool:
        statuses = list(pool.map(post, bodies))
    return {status: statuses.count(status) for status in statuses}


def connect(service) -> socket.socket:
    host, port = service.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def make_head(path: str, length: int) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {HOSTILE_KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


@pytest.mark.faults
@pytest.mark.parametrize("model", ["onnx_int8", "onnx_fp32", "static"])
@pytest.mark.parametrize("kind", TEXTS)
def test_what_people_send_has_the_runtimes_vector(guarded, released, kind, model):
    vector = embed(guarded.client, TEXTS[kind], model)
    values = np.frombuffer(vector, dtype=np.float32)
    assert np.isfinite(values).all()
    assert abs(np.linalg.norm(values) - 1) < 1e-5
    assert vector == open_bundle(released.folder, model).encode([TEXTS[kind]])[0].tobytes()


@pytest.mark.faults
@pytest.mark.parametrize("model", ["onnx_int8", "static"])
def test_odd_texts_do_no_harm_to_those_beside_them(guarded, model):
    """The vectors of a call of all of them are those of each alone."""
    body = {"input": list(TEXTS.values()), "model": model, "encoding_format": "base64"}
    answer = guarded.client.post("/v1/embeddings", json=body)
    assert answer.status_code == 200, answer.text
    together = [base64.b64decode(row["embedding"]) for row in answer.json()["data"]]
    assert together == [embed(guarded.client, text, model) for text in TEXTS.values()]
    assert 1 in map(int, answer.headers["X-Truncated"].split(",")) or model == "static"


@pytest.mark.faults
@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize(
    ("body", "statuses"),
    [
        (json.dumps({"inputs": "a " * 500_000}).encode(), {413}),
        (b'{"inputs": ' + b"[" * 500_000 + b"]" * 500_000 + b"}", {400, 422}),
        (b'{"inputs": [' + b"[]," * 1_000_000 + b"[]]}", {400, 422}),
        (b'{"inputs": "' + b"\\u0041" * 1_000_000 + b'"}', {413}),
        (b'{"inputs": "' + b"\xff" * 4_000_000 + b'"}', {400, 422}),
        (json.dumps({"inputs": ["a"] * 100_000}).encode(), {413, 422}),
        (json.dumps({"inputs": ["a"], **{f"field{number}": 1 for number in range(200_000)}}).encode(), {400, 422}),
        (b" " * (9 << 20), {413}),
    ],
    ids=["characters", "depth", "lists", "escapes", "no UTF-8", "texts", "fields", "body"],
)
def test_a_flood_of_bad_bodies(guarded, body, statuses):
    # 408: forty bodies of megabytes took longer to read than the deadline.
    assert set(post_all(guarded, [body] * 40)) <= statuses | {408, 429}


@pytest.mark.faults
@pytest.mark.usefixtures("unharmed")
def test_a_flood_of_texts_is_answered_or_refused_within_its_deadline(guarded):
    bodies = [
        json.dumps(
            {"inputs": [f"{n} {row} " + "a bucket " * 80 for row in range(200)], "model": "onnx_int8", "truncate": True}
        ).encode()
        for n in range(64)
    ]
    started = time.perf_counter()
    statuses = post_all(guarded, bodies, clients=64)
    assert set(statuses) <= {200, 429, 503}
    assert statuses.get(429, 0) > 0, "more than fits the deadline is refused"
    assert time.perf_counter() - started < 4 * DEADLINE_S


@pytest.mark.faults
@pytest.mark.usefixtures("unharmed")
def test_bodies_that_never_end(guarded):
    """Slow writers: each sends a byte now and then; at the deadline they are told so, and let go."""
    with ExitStack() as stack:
        writers = [stack.enter_context(connect(guarded)) for _ in range(40)]
        for writer in writers:
            writer.sendall(make_head("/embed", 1000) + b'{"inputs": "')
        started, answered = time.monotonic(), set()
        while len(answered) < len(writers) and time.monotonic() - started < 3 * DEADLINE_S:
            time.sleep(0.5)
            for writer in set(writers) - answered:
                writer.settimeout(0.01)
                try:
                    answered |= {writer} if b" 408 " in writer.recv(65536) else set()
                    writer.sendall(b"a")
                except TimeoutError:
                    writer.sendall(b"a")
                except OSError:
                    answered.add(writer)
        assert len(answered) == len(writers)


@pytest.mark.faults
@pytest.mark.usefixtures("unharmed")
def test_answers_that_nobody_reads(guarded):
    """Slow readers: each asks for megabytes, and takes none of them."""
    body = json.dumps({"inputs": [f"a{row}" for row in range(2000)], "model": "static"}).encode()
    with ExitStack() as stack:
        for _ in range(40):
            reader = stack.enter_context(connect(guarded))
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.sendall(make_head("/embed", len(body)) + body)
        time.sleep(3)
        assert embed(guarded.client, "a", "static")


@pytest.mark.faults
@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("kind", GARBAGE)
def test_what_is_no_http(guarded, kind):
    for _ in range(5):
        with connect(guarded) as connection:
            connection.settimeout(3 * DEADLINE_S)
            try:
                connection.sendall(GARBAGE[kind])
                connection.shutdown(socket.SHUT_WR)
                answer = connection.recv(65536)
            except OSError:  # it was hung up on in the middle
                continue
            assert not answer.startswith(b"HTTP/1.1 2"), answer
            assert b"Traceback" not in answer


@pytest.mark.faults
@pytest.mark.usefixtures("unharmed")
def test_connections_that_say_nothing(guarded):
    with ExitStack() as stack:
        for _ in range(500):
            stack.enter_context(connect(guarded))
        assert embed(guarded.client, "a")
