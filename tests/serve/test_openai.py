"""OpenAI's dialect, asked by plain HTTP."""

import base64

import httpx2
import numpy as np
from embed_foundry import open_bundle


def test_vectors_are_the_runtimes_own(service, released):
    texts = ["how do I list my buckets?", "a"]
    answer = httpx2.post(f"{service.url}/v1/embeddings", json={"input": texts, "model": "auto"}, timeout=60)
    assert answer.status_code == 200
    vectors = np.array([item["embedding"] for item in answer.json()["data"]], dtype=np.float32)
    encoder = open_bundle(released.folder)
    assert answer.headers["X-Variant"] == encoder.variant.name
    assert vectors.tobytes() == np.concatenate([encoder.encode([text]) for text in texts]).tobytes()


def test_base64_is_little_endian_float32(service):
    body = {"input": "a", "model": "static", "encoding_format": "base64"}
    packed = httpx2.post(f"{service.url}/v1/embeddings", json=body, timeout=60).json()["data"][0]["embedding"]
    assert abs(np.linalg.norm(np.frombuffer(base64.b64decode(packed), "<f4")) - 1) < 1e-6
