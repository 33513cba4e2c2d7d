"""Prompts, by each dialect's way to name one; a release of a model that has some, as mteb names them."""

import json
import shutil

import numpy as np
import pytest
from embed_foundry import open_bundle

from support import small_release
from support.served import serve

PROMPTS = {"query": "search for: ", "document": "title: none | text: ", "Clustering": "cluster: "}
TEXT = "how do I list my buckets?"


@pytest.fixture(scope="module")
def release(base, converted, params, root, tmp_path_factory):
    """Return a release of two variants whose model has prompts."""
    sources = tmp_path_factory.mktemp("prompted")

    def convert(name):
        folder = sources / name
        shutil.copytree(converted(name), folder)
        record = json.loads((folder / "variant.json").read_text(encoding="utf-8"))
        (folder / "variant.json").write_text(json.dumps(record | {"prompts": PROMPTS}), encoding="utf-8")
        small_release.refit(folder)
        return folder

    names = ("fp32", "onnx_int8", "static")
    model = params.model.model_copy(update={"prompts": PROMPTS})
    target = params.target.model_copy(update={"candidates": ["onnx_int8", "static"]})
    build = small_release.start(tmp_path_factory.mktemp("build"), base, convert, model, target, root, names)
    return build.release()


@pytest.fixture(scope="module")
def prompted(release, tmp_path_factory):
    with serve(release, tmp_path_factory.mktemp("prompted_service")) as running:
        yield running


@pytest.fixture(scope="module")
def vectors(release):
    """Return the runtime's vector of the text with each prompt, and with none (None)."""
    encoder = open_bundle(release, "onnx_int8")
    return {name: encoder.encode([TEXT], prompt=name) for name in (None, *PROMPTS)}


def require_equal(rows, vectors):
    assert np.asarray(rows, dtype=np.float32).tobytes() == vectors.tobytes()


@pytest.mark.parametrize("model", ["auto", "minilm", "onnx_int8"])
@pytest.mark.parametrize("name", PROMPTS)
def test_the_models_suffix_names_a_prompt_where_no_field_does(prompted, vectors, model, name):
    answer = prompted.client.post("/v1/embeddings", json={"model": f"{model}:{name}", "input": TEXT}).json()
    require_equal(answer["data"][0]["embedding"], vectors[name])
    answer = prompted.client.post("/api/embed", json={"model": f"{model}:{name}", "input": TEXT}).json()
    require_equal(answer["embeddings"], vectors[name])


@pytest.mark.parametrize("name", [None, *PROMPTS])
def test_teis_prompt_name(prompted, vectors, name):
    require_equal(prompted.client.post("/embed", json={"inputs": TEXT, "prompt_name": name}).json(), vectors[name])
    tokens = prompted.client.post("/tokenize", json={"inputs": TEXT, "prompt_name": name}).json()
    assert tokens == prompted.client.post("/tokenize", json={"inputs": PROMPTS.get(name, "") + TEXT}).json()


@pytest.mark.parametrize(
    ("input_type", "name"),
    [
        ("search_query", "query"),
        ("search_document", "document"),
        ("clustering", "Clustering"),
        ("classification", None),  # the model has no prompt for it
    ],
)
def test_coheres_input_type(prompted, vectors, input_type, name):
    body = {"model": "auto", "texts": [TEXT], "input_type": input_type}
    require_equal(prompted.client.post("/v2/embed", json=body).json()["embeddings"]["float"], vectors[name])


def test_two_prompts_are_refused(prompted):
    body = {"model": "auto:document", "texts": [TEXT], "input_type": "search_query"}
    answer = prompted.client.post("/v2/embed", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")


def test_an_unknown_prompt_is_refused_with_those_that_there_are(prompted):
    answer = prompted.client.post("/embed", json={"inputs": TEXT, "prompt_name": "Query"})
    assert answer.status_code == 422
    assert all(name in answer.json()["error"] for name in PROMPTS)
    assert prompted.client.post("/v1/embeddings", json={"model": "auto:Query", "input": TEXT}).status_code == 404


def test_prompts_are_listed(prompted):
    shown = prompted.client.post("/api/show", json={"model": "auto"}).json()
    assert shown["model_info"]["foundry.prompts"] == sorted(PROMPTS)
