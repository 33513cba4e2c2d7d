"""The dialect of text-embeddings-inference, asked by plain HTTP."""

import pytest
from embed_foundry import open_bundle


def embed(service, **body):
    return service.client.post("/embed", json=body)


def test_vectors_are_those_of_openais_door(service):
    answer = embed(service, inputs=["a", "b"])
    assert answer.status_code == 200
    other = service.client.post("/v1/embeddings", json={"input": ["a", "b"]}).json()
    assert answer.json() == [item["embedding"] for item in other["data"]]
    assert answer.headers["X-Compute-Characters"] == "2"
    assert answer.headers["X-Compute-Tokens"] == str(other["usage"]["total_tokens"])
    assert int(answer.headers["X-Compute-Time"]) >= 0


def test_long_texts_are_refused_unless_truncated(service):
    refused = embed(service, inputs=["a", "word " * 5000])
    assert (refused.status_code, refused.json()["error_type"]) == (413, "Validation")
    answer = embed(service, inputs=["a", "word " * 5000], truncate=True)
    assert (answer.status_code, answer.headers["X-Truncated"]) == (200, "1")


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"inputs": ""}, 400, "Empty"),
        ({"inputs": []}, 400, "Empty"),
        ({"inputs": 3}, 422, "Tokenizer"),
        ({}, 422, "Tokenizer"),
        ({"inputs": "a", "normalize": False}, 422, "Validation"),
        ({"inputs": "a", "prompt_name": "nobody"}, 422, "Validation"),
        ({"inputs": "a", "dimensions": 0}, 422, "Validation"),
        ({"inputs": "a", "truncate": True, "truncation_direction": "Left"}, 422, "Validation"),
        ({"inputs": ["a"] * 2049}, 413, "Validation"),
        ({"inputs": "x" * 200_001}, 413, "Validation"),
        ({"inputs": "a", "model": "nobody"}, 404, "Validation"),
    ],
)
def test_refusals_have_teis_statuses(service, body, status, kind):
    answer = embed(service, **body)
    assert (answer.status_code, answer.json()["error_type"]) == (status, kind)
    assert set(answer.json()) == {"error", "error_type", "code"}


def test_tokens_are_the_models(service, released):
    texts = ["How do I list my buckets?", "Größe"]
    answer = service.client.post("/tokenize", json={"inputs": texts}).json()
    encoder = open_bundle(released.folder)
    assert [[token["id"] for token in tokens] for tokens in answer] == encoder.token_ids(texts)
    for text, tokens in zip(texts, answer, strict=True):
        assert tokens[0]["special"]
        assert tokens[0]["start"] is None
        for token in tokens[1:-1]:
            assert text[token["start"] : token["stop"]] == token["text"]
    bare = service.client.post("/tokenize", json={"inputs": texts, "add_special_tokens": False})
    assert [len(tokens) + 2 for tokens in bare.json()] == [len(tokens) for tokens in answer]


def test_info_says_what_is_served(service, released):
    info = service.client.get("/info").json()
    variant = open_bundle(released.folder).variant
    assert f"{info['model_id']}@{info['model_sha']}" == variant.model
    assert (info["max_input_length"], info["max_client_batch_size"]) == (variant.max_tokens, 2048)
    assert service.client.get("/health").status_code == 200
