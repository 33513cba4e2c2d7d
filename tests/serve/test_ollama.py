"""Ollama's dialect, asked by plain HTTP."""

import numpy as np
import pytest


def embed(service, body):
    return service.client.post("/api/embed", json=body)


def test_vectors_are_those_of_openais_door(service):
    answer = embed(service, {"model": "onnx_int8", "input": ["a", "b"], "keep_alive": "5m", "options": {"seed": 1}})
    assert answer.status_code == 200
    body = {"input": ["a", "b"], "model": "onnx_int8"}
    other = service.client.post("/v1/embeddings", json=body).json()
    assert answer.json()["embeddings"] == [item["embedding"] for item in other["data"]]
    assert answer.json()["prompt_eval_count"] == other["usage"]["total_tokens"]
    assert answer.json()["model"] == answer.headers["X-Variant"] == "onnx_int8"
    assert 0 < answer.json()["total_duration"] < 60e9


def test_the_old_call_answers_one_text(service):
    answer = service.client.post("/api/embeddings", json={"model": "static", "prompt": "a"})
    assert [answer.json()["embedding"]] == embed(service, {"model": "static", "input": "a"}).json()["embeddings"]


@pytest.mark.parametrize("body", [{}, {"input": ""}, {"input": []}])
def test_a_call_without_input_only_finds_the_model(service, body):
    assert embed(service, {"model": "static", **body}).json()["embeddings"] == []
    assert embed(service, {"model": "llama3", **body}).status_code == 404


def test_truncate_is_honoured_either_way(service):
    long = {"model": "onnx_int8", "input": ["a", "word " * 5000]}
    refused = embed(service, long | {"truncate": False})
    assert (refused.status_code, refused.json()["code"]) == (400, "input_too_long")
    answer = embed(service, long)
    assert (answer.status_code, answer.headers["X-Truncated"]) == (200, "1")
    assert embed(service, long | {"truncate": True}).json()["embeddings"] == answer.json()["embeddings"]


def test_dimensions_are_renormalised(service):
    (vector,) = embed(service, {"model": "onnx_int8", "input": "a", "dimensions": 64}).json()["embeddings"]
    assert len(vector) == 64
    assert abs(np.linalg.norm(vector) - 1) < 1e-6


def test_an_unknown_model_is_404(service):
    answer = embed(service, {"model": "llama3", "input": "a"})
    assert (answer.status_code, set(answer.json())) == (404, {"error", "code"})


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", ""])
def test_the_type_of_a_body_does_not_matter(service, content_type):
    """Ollama's documentation calls curl without a header."""
    content = b'{"model": "static", "input": "a"}'
    headers = {"Content-Type": content_type}
    assert service.client.post("/api/embed", content=content, headers=headers).status_code == 200


def test_listed_models_can_be_shown_and_used(service):
    tags = service.client.get("/api/tags").json()["models"]
    assert {"auto:latest", "static:latest", "onnx_int8:latest"} <= {tag["name"] for tag in tags}
    for tag in tags:
        shown = service.client.post("/api/show", json={"model": tag["name"]}).json()
        assert shown["capabilities"] == ["embedding"]
        family = shown["model_info"]["general.architecture"]
        (vector,) = embed(service, {"model": tag["name"], "input": "a"}).json()["embeddings"]
        assert len(vector) == shown["model_info"][f"{family}.embedding_length"]
    assert service.client.post("/api/show", json={"model": "llama3"}).status_code == 404
    running = service.client.get("/api/ps").json()["models"]
    assert "static:latest" in {model["name"] for model in running}


def test_probes_are_answered_as_ollama_does(service):
    assert service.client.get("/").text == "Ollama is running"
    assert service.client.head("/").status_code == 200
    assert service.client.get("/api/version").json()["version"]


def test_browsers_do_not_get_the_probes_answer(service):
    accept = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    assert service.client.get("/", headers=accept).text != "Ollama is running"
