"""Programs that people use, as they come: each gets the vectors that the runtime gives."""

import json
import subprocess

import cohere
import numpy as np
import ollama
import openai
import pytest
from embed_foundry import open_bundle
from langchain_ollama import OllamaEmbeddings
from langchain_openai import OpenAIEmbeddings

TEXTS = ["how do I list my buckets?", "Größe 日本語", "a"]
MODEL = "onnx_int8"


@pytest.fixture(scope="module")
def vectors(released):
    """Return the runtime's own vectors of the texts: float32 [3, 384]."""
    encoder = open_bundle(released.folder, MODEL)
    return np.concatenate([encoder.encode([text]) for text in TEXTS])


@pytest.fixture
def openai_client(service):
    return openai.OpenAI(base_url=f"{service.url}/v1", api_key="none")


def require_equal(answer, vectors):
    assert np.asarray(answer, dtype=np.float32).tobytes() == vectors.tobytes()


def test_openai(openai_client, vectors):
    for options in ({}, {"encoding_format": "float"}):  # without, it asks for base64
        answer = openai_client.embeddings.create(model=MODEL, input=TEXTS, **options)
        require_equal([item.embedding for item in answer.data], vectors)
    assert len(openai_client.embeddings.create(model=MODEL, input="a", dimensions=64).data[0].embedding) == 64
    assert MODEL in {model.id for model in openai_client.models.list()}
    assert openai_client.models.retrieve("auto").owned_by == "embed-foundry"


def test_openai_raises_its_own_errors(openai_client):
    with pytest.raises(openai.NotFoundError) as unknown:
        openai_client.embeddings.create(model="text-embedding-3-small", input="a")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as ids:
        openai_client.embeddings.create(model=MODEL, input=[[1, 2]])
    assert ids.value.code == "token_ids"


def test_openai_does_not_repeat_what_is_refused_for_good(openai_client, service):
    """Its client repeats a 409 unless X-Should-Retry forbids it."""
    sent = []
    client = openai_client.with_options(max_retries=2, default_headers={"X-Expect-Space-Id": "0" * 16})
    client._client.event_hooks["request"].append(sent.append)
    with pytest.raises(openai.ConflictError):
        client.embeddings.create(model=MODEL, input="a")
    assert len(sent) == 1


def test_ollama(service, vectors):
    client = ollama.Client(host=service.url)
    require_equal(client.embed(model=MODEL, input=TEXTS, truncate=True, keep_alive="5m").embeddings, vectors)
    require_equal(client.embeddings(model=MODEL, prompt=TEXTS[0]).embedding, vectors[0])
    assert f"{MODEL}:latest" in {model.model for model in client.list().models}
    assert client.show(MODEL).capabilities == ["embedding"]
    assert f"{MODEL}:latest" in {model.model for model in client.ps().models}
    with pytest.raises(ollama.ResponseError) as unknown:
        client.embed(model="llama3", input="a")
    assert unknown.value.status_code == 404


def test_cohere(service, vectors):
    client = cohere.ClientV2(api_key="none", base_url=service.url)
    answer = client.embed(model=MODEL, texts=TEXTS, input_type="search_query", embedding_types=["float", "ubinary"])
    require_equal(answer.embeddings.float_, vectors)
    assert answer.embeddings.ubinary == np.packbits(vectors > 0, axis=1).tolist()
    old = cohere.Client(api_key="none", base_url=service.url)
    require_equal(old.embed(model=MODEL, texts=TEXTS, input_type="search_query").embeddings, vectors)
    with pytest.raises(cohere.NotFoundError):
        client.embed(model="embed-v4.0", texts=TEXTS, input_type="search_query", embedding_types=["float"])


def test_langchain_openai(service, vectors):
    options = {"model": MODEL, "base_url": f"{service.url}/v1", "api_key": "none"}
    embeddings = OpenAIEmbeddings(**options, check_embedding_ctx_length=False)
    require_equal(embeddings.embed_documents(TEXTS), vectors)
    require_equal(embeddings.embed_query(TEXTS[0]), vectors[0])


def test_langchain_ollama(service, vectors):
    embeddings = OllamaEmbeddings(model=MODEL, base_url=service.url)
    require_equal(embeddings.embed_documents(TEXTS), vectors)
    require_equal(embeddings.embed_query(TEXTS[0]), vectors[0])


def test_curl(service, vectors):
    """As Ollama's documentation calls it: without a Content-Type."""
    body = '{"model": "onnx_int8", "input": "how do I list my buckets?"}'
    command = ["curl", "--silent", "--fail", f"{service.url}/api/embed", "--data", body]
    answer = subprocess.run(command, capture_output=True, check=True).stdout
    require_equal(json.loads(answer)["embeddings"], vectors[:1])
    head = subprocess.run(["curl", "--silent", "--head", service.url], capture_output=True, text=True, check=True)
    assert head.stdout.startswith("HTTP/1.1 200 ")
