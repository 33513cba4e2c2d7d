"""What no dialect can answer: every door refuses it in its own words, and goes on answering others."""

import json
import socket
import time

import pytest

DOORS = {
    "/v1/embeddings": ({"model": "static"}, "input", lambda answer: answer["error"]["message"]),
    "/api/embed": ({"model": "static"}, "input", lambda answer: answer["error"]),
    "/embed": ({"model": "static"}, "inputs", lambda answer: answer["error"]),
    "/tokenize": ({"model": "static"}, "inputs", lambda answer: answer["error"]),
    "/v2/embed": ({"model": "static", "input_type": "search_query"}, "texts", lambda answer: answer["message"]),
    "/v1/embed": ({"model": "static"}, "texts", lambda answer: answer["message"]),
    "/api/v1/embed": ({"model": "static"}, "inputs", lambda answer: answer["error"]),
}
HOSTILE = {
    "nothing": b"",
    "no JSON": b"{'input': 1}",
    "half an object": b'{"input": "a',
    "two objects": b'{"input": "a"}{}',
    "a list": b"[]",
    "null": b"null",
    "invalid UTF-8": b'{"input": "\xff\xfe"}',
    "UTF-16": '{"input": "a"}'.encode("utf-16"),
    "NaN": b'{"input": NaN}',
    "Infinity": b'{"input": -Infinity}',
    "a name twice": b'{"input": "a", "input": "b"}',
    "deep lists": b'{"input": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    "deep objects": b'{"a": ' * 5_000 + b"1" + b"}" * 5_000,
    "a huge number": b'{"dimensions": ' + b"9" * 5_000 + b"}",
    "millions of lists": b'{"input": [' + b"[]," * 1_000_000 + b"[]]}",
    "a surrogate as a name": b'{"\\ud800": 1}',
}


def post(service, path, content, **headers):
    headers = {"Content-Type": "application/json"} | headers
    return service.client.post(path, content=content, headers=headers)


def make_body(path, *texts, **fields):
    body, field, _ = DOORS[path]
    return json.dumps({**body, field: list(texts), **fields}).encode()


def require_refusal(path, answer, statuses):
    assert answer.status_code in statuses, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Reason"]
    message = DOORS[path][2](answer.json())
    assert message.endswith(".")
    assert "Traceback" not in answer.text
    assert "detail" not in answer.json()
    return message


@pytest.mark.parametrize("path", DOORS)
@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_no_request_is_refused(service, path, kind):
    require_refusal(path, post(service, path, HOSTILE[kind]), (400, 422))
    assert post(service, path, make_body(path, "a")).status_code == 200
    assert "Traceback" not in service.log.read_text()


@pytest.mark.parametrize("path", DOORS)
@pytest.mark.parametrize(
    ("item", "statuses"),
    [("\ud800", (400, 422)), (3, (400, 422)), (None, (400, 422)), ({}, (400, 422)), (True, (400, 422))],
)
def test_the_item_is_named(service, path, item, statuses):
    message = require_refusal(path, post(service, path, make_body(path, "a", "b", item)), statuses)
    assert f"{DOORS[path][1]}[2]" in message


@pytest.mark.parametrize("path", DOORS)
def test_a_model_of_a_surrogate_is_no_fault_of_ours(service, path):
    require_refusal(path, post(service, path, make_body(path, "a", model="\ud800")), (400, 422))


@pytest.mark.parametrize("path", DOORS)
@pytest.mark.parametrize(
    "text", [" \t\n", "a\x00b", "مرحبا بالعالم", "a\u200b\u202eb", "👩‍👩‍👧‍👦", "\ufeff", "\U0010ffff"]
)
def test_odd_texts_have_finite_vectors(service, path, text):
    if path == "/tokenize":
        assert post(service, path, make_body(path, text)).status_code == 200
        return
    answer = post(service, path, make_body(path, text, model="onnx_int8"))
    assert answer.status_code == 200, answer.text
    assert b"null" not in answer.content
    assert b"NaN" not in answer.content


@pytest.mark.parametrize("path", DOORS)
def test_an_unknown_field_is_refused(service, path):
    assert "dimensoins" in require_refusal(path, post(service, path, make_body(path, "a", dimensoins=64)), (400, 422))


@pytest.mark.parametrize("path", sorted(set(DOORS) - {"/api/embed"}))
def test_another_type_of_body_is_refused(service, path):
    body = make_body(path, "a")
    for headers in ({"Content-Type": "application/x-www-form-urlencoded"}, {"Content-Encoding": "gzip"}):
        message = require_refusal(path, post(service, path, body, **headers), (415,))
        assert "Send" in message
    assert post(service, path, body, **{"Content-Type": "application/json; charset=utf-8"}).status_code == 200


@pytest.mark.parametrize("path", DOORS)
def test_a_million_characters_are_refused_before_they_are_tokenized(service, path):
    started = time.perf_counter()
    message = require_refusal(path, post(service, path, make_body(path, "a " * 500_000)), (413,))
    assert "1000000 characters" in message
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize("path", DOORS)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused_while_it_arrives(service, path, chunked):
    """The rest is never sent: the answer comes, whether the size was declared or not."""
    host, port = service.url.removeprefix("http://").split(":")
    size = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {1 << 30}"
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{size}\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(head.encode())
        if chunked:
            chunk = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
            for _ in range(9):
                connection.sendall(chunk)
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("path", "read"),
    [
        ("/v1/nothing", lambda answer: answer["error"]["code"]),
        ("/api/nothing", lambda answer: answer["code"]),
        ("/api/v1/nothing", lambda answer: answer["code"]),
        ("/v2/nothing", lambda answer: answer["code"]),
        ("/nothing", lambda answer: answer["error_type"] and answer["code"]),
    ],
)
def test_unknown_paths_are_refused_in_the_dialect_beside_them(service, path, read):
    answer = service.client.get(path)
    assert (answer.status_code, read(answer.json()), answer.headers["X-Reason"]) == (404, "not_found", "not_found")


@pytest.mark.parametrize("path", DOORS)
def test_wrong_methods_are_refused(service, path):
    for method in ("GET", "PUT", "DELETE"):
        answer = service.client.request(method, path)
        require_refusal(path, answer, (405,))
        assert answer.headers["Allow"] == "POST"
