"""Cohere's dialect, asked by plain HTTP."""

import base64

import numpy as np
import pytest
from embed_foundry.serve import precision


def embed(service, path="/v2/embed", **body):
    return service.client.post(path, json={"model": "static", **body})


def test_every_type_is_of_the_same_vectors(service):
    types = ["float", "int8", "uint8", "binary", "ubinary", "base64"]
    answer = embed(service, texts=["a", "b"], input_type="search_query", embedding_types=types).json()
    assert answer["texts"] == ["a", "b"]
    floats = np.array(answer["embeddings"]["float"], dtype=np.float32)
    for name in types[1:5]:
        assert answer["embeddings"][name] == precision.ENCODINGS[name](floats).tolist()
    packed = [np.frombuffer(base64.b64decode(text), "<f4") for text in answer["embeddings"]["base64"]]
    assert np.array(packed).tobytes() == floats.tobytes()


def test_the_first_version_answers_plain_lists(service):
    old = embed(service, "/v1/embed", texts=["a"]).json()
    assert old["response_type"] == "embeddings_floats"
    assert old["embeddings"] == embed(service, texts=["a"], input_type="clustering").json()["embeddings"]["float"]
    typed = embed(service, "/v1/embed", texts=["a"], embedding_types=["int8"]).json()
    assert (typed["response_type"], set(typed["embeddings"])) == ("embeddings_by_type", {"int8"})


def test_output_dimension(service):
    answer = embed(service, texts=["a"], input_type="search_query", output_dimension=64).json()
    assert np.array(answer["embeddings"]["float"]).shape == (1, 64)


def test_truncation_happens_where_the_model_was_measured(service):
    long = {"texts": ["word " * 5000], "input_type": "search_query"}
    assert embed(service, **long).headers["X-Truncated"] == "0"
    assert embed(service, **long, truncate="END").headers["X-Truncated"] == "0"
    for side, reason in (("NONE", "input_too_long"), ("START", "invalid_input")):
        answer = embed(service, **long, truncate=side)
        assert (answer.status_code, answer.json()["code"]) == (400, reason)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"texts": ["a"]}, 400),
        ({"texts": [], "input_type": "search_query"}, 400),
        ({"texts": "a", "input_type": "search_query"}, 400),
        ({"texts": ["a"], "input_type": "image"}, 400),
        ({"texts": ["a"], "input_type": "search_query", "embedding_types": ["int4"]}, 400),
        ({"texts": ["a"], "input_type": "search_query", "images": ["a"]}, 400),
        ({"texts": ["a"], "input_type": "search_query", "model": "embed-v4.0"}, 404),
        ({"texts": ["a"] * 2049, "input_type": "search_query"}, 413),
    ],
)
def test_refusals_have_a_message(service, body, status):
    answer = embed(service, **body)
    assert (answer.status_code, set(answer.json())) == (status, {"message", "code"})
