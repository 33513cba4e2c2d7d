"""OpenAI's dialect, asked by plain HTTP."""

import base64

import numpy as np
import pytest
from embed_foundry import open_bundle
from embed_foundry.serve import precision

TEXTS = ["how do I list my buckets?", "a", "Größe 日本語"]


def embed(service, body, **headers):
    return service.client.post("/v1/embeddings", json=body, headers=headers)


def read_vectors(answer):
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    assert [item["index"] for item in data] == list(range(len(data)))
    return np.array([item["embedding"] for item in data], dtype=np.float32)


def test_vectors_are_the_runtimes_own(service, released):
    answer = embed(service, {"input": TEXTS, "model": "auto"})
    encoder = open_bundle(released.folder)
    assert answer.headers["X-Variant"] == answer.json()["model"] == encoder.variant.name
    assert answer.headers["X-Space-Id"] == encoder.variant.space_id
    assert read_vectors(answer).tobytes() == np.concatenate([encoder.encode([text]) for text in TEXTS]).tobytes()
    count = sum(encoder.count_tokens(TEXTS))
    assert answer.json()["usage"] == {"prompt_tokens": count, "total_tokens": count}


def test_formats_are_those_of_the_float_vectors(service):
    floats = read_vectors(embed(service, {"input": TEXTS, "model": "static", "encoding_format": "float"}))
    for name in ("base64", "float16"):
        items = embed(service, {"input": TEXTS, "model": "static", "encoding_format": name}).json()["data"]
        kind = "<f4" if name == "base64" else "<f2"
        packed = np.array([np.frombuffer(base64.b64decode(item["embedding"]), kind) for item in items])
        assert packed.tobytes() == floats.astype(kind).tobytes()
    for name in ("int8", "uint8", "binary", "ubinary"):
        items = embed(service, {"input": TEXTS, "model": "static", "encoding_format": name}).json()["data"]
        assert [item["embedding"] for item in items] == precision.ENCODINGS[name](floats).tolist()


@pytest.mark.parametrize("dimensions", [1, 100, 256])
def test_dimensions_are_truncated_and_renormalised(service, dimensions):
    full = read_vectors(embed(service, {"input": TEXTS, "model": "onnx_int8"}))[:, :dimensions].astype(np.float64)
    part = read_vectors(embed(service, {"input": TEXTS, "model": "onnx_int8", "dimensions": dimensions}))
    assert part.shape == (3, dimensions)
    np.testing.assert_allclose(part, full / np.linalg.norm(full, axis=1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({"input": [1, 2, 3]}, 400, "token_ids", "input"),
        ({"input": [[1, 2], [3]]}, 400, "token_ids", "input"),
        ({"input": ""}, 400, "empty_input", "input"),
        ({"input": ["a", ""]}, 400, "empty_input", "input"),
        ({"input": []}, 400, "empty_input", "input"),
        ({"input": "a", "model": "text-embedding-3-small"}, 404, "model_not_found", "model"),
        ({"input": "a", "dimensions": 0}, 400, "invalid_input", "dimensions"),
        ({"input": "a", "encoding_format": "int4"}, 400, "invalid_input", "encoding_format"),
        ({"input": "a", "dimension": 128}, 400, "malformed", "dimension"),
        ({"input": ["a"] * 2049}, 413, "too_large", "input"),
        ({"model": "auto"}, 400, "malformed", "input"),
    ],
)
def test_refusals_are_openais_error_object(service, body, status, code, param):
    answer = embed(service, body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"].endswith(".")


def test_dimensions_of_no_vector_are_refused(service):
    answer = embed(service, {"input": "a", "dimensions": 99999})
    assert (answer.status_code, answer.headers["X-Reason"]) == (400, "invalid_input")


def test_token_ids_are_refused_with_the_next_step(service):
    assert "check_embedding_ctx_length=False" in embed(service, {"input": [[15339]]}).json()["error"]["message"]


def test_another_space_is_refused_and_never_retried(service):
    answer = embed(service, {"input": "a"}, **{"X-Expect-Space-Id": "0" * 16})
    assert (answer.status_code, answer.headers["X-Reason"]) == (409, "other_space")
    assert answer.headers["X-Should-Retry"] == "false"
    space = embed(service, {"input": "a"}).headers["X-Space-Id"]
    assert embed(service, {"input": "a"}, **{"X-Expect-Space-Id": space}).status_code == 200
    assert embed(service, {"input": "a", "model": "static"}, **{"X-Expect-Space-Id": space}).status_code == 409


def test_truncation_is_always_told(service):
    answer = embed(service, {"input": ["short", "word " * 5000, "short", "word " * 600]})
    assert (answer.status_code, answer.headers["X-Truncated"]) == (200, "1,3")
    assert "X-Truncated" not in embed(service, {"input": "short"}).headers


def test_a_text_without_a_known_token_is_told(service):
    answer = embed(service, {"input": ["bucket", "𒀀𒀁"], "model": "static"})
    assert (answer.status_code, answer.headers.get("X-Unknown")) == (200, "1")


def test_models_are_the_names_that_requests_may_use(service):
    names = [model["id"] for model in service.client.get("/v1/models").json()["data"]]
    assert names[0] == "auto"
    assert {"static", "onnx_int8", "onnx_fp32"} <= set(names)
    for name in names:
        assert service.client.get(f"/v1/models/{name}").json()["id"] == name
        assert embed(service, {"input": "a", "model": name}).status_code == 200
    answer = service.client.get("/v1/models/gpt-5")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_request_ids_are_the_clients_or_new(service):
    assert embed(service, {"input": "a"}, **{"X-Request-Id": "mine-1"}).headers["X-Request-Id"] == "mine-1"
    ids = {embed(service, {"input": "a"}, **{"X-Request-Id": "x" * 500}).headers["X-Request-Id"] for _ in range(2)}
    assert len(ids) == 2
    assert all(len(request_id) == 32 for request_id in ids)
