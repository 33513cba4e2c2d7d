"""The exported graph of Gemma3: sentence-transformers' vectors at every length, its window, and optimum's as oracle."""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from embed_foundry import open_variant
from sentence_transformers import SentenceTransformer

from stages import convert
from stages.common.config import Model
from stages.convert import graph
from stages.convert.graph import onnx_model
from support import tiny_gemma

TEXTS = ["cat", "Why is the sky blue?", *("the river " * n + f"ends after {n}" for n in (60, 125, 240, 300, 500))]
VARIANTS = ["onnx_fp32", "onnx_q8", "onnx_int8", "onnx_int8_compact", "onnx_q4", "openvino_fp32", "openvino_int8"]
# Random weights have no redundancy to hide rounding in, so these bounds are for this model, not for trained ones.
COSINE_MIN = dict.fromkeys(VARIANTS, 0.95) | {"onnx_fp32": 0.999999, "openvino_fp32": 0.999999, "onnx_q4": 0.8}


@pytest.fixture(scope="session")
def model(params) -> Model:
    changes = {"name": "gemma", "dimensions": 48, "matryoshka": [48, 16], "max_tokens": 1024}
    return params.model.model_copy(update=changes | {"prompts": {"query": "task: search result | query: "}})


@pytest.fixture(scope="session")
def expected(gemma) -> np.ndarray:
    original = SentenceTransformer(str(gemma), device="cpu")
    return np.concatenate([original.encode([text], normalize_embeddings=True) for text in TEXTS])


@pytest.fixture(scope="session")
def variant(gemma, model, recipes, conversion_cache, tmp_path_factory):
    """Return a function that gives the folder of a variant of the small Gemma3."""
    out = tmp_path_factory.mktemp("gemma_variants")

    def folder(name: str) -> Path:
        if not (out / name).exists():
            convert.run(name, recipes[name], model, gemma, out / name, cache=conversion_cache)
        return out / name

    return folder


@pytest.mark.parametrize("name", VARIANTS)
def test_gives_the_original_vectors_from_one_token_to_the_limit(variant, expected, name):
    encoder = open_variant(variant(name), 2)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    assert (alone * expected).sum(axis=1).min() >= COSINE_MIN[name]
    together = encoder.encode(TEXTS, batch_size=len(TEXTS))
    np.testing.assert_allclose(together, alone, atol=1e-5)
    prompted = encoder.encode(["cat"], prompt="query")
    np.testing.assert_allclose(prompted, encoder.encode(["task: search result | query: cat"]), atol=1e-6)


def test_a_long_text_shows_a_wrong_window(gemma, expected, tmp_path):
    """The comparison above must see a window that shrank, as transformers 4 shrank it in each save and reload."""
    shrunken = shutil.copytree(gemma, tmp_path / "shrunken")
    config = json.loads((shrunken / "config.json").read_text())
    assert config["sliding_window"] == tiny_gemma.WINDOW
    (shrunken / "config.json").write_text(json.dumps(config | {"sliding_window": tiny_gemma.WINDOW // 2}))
    vectors = SentenceTransformer(str(shrunken), device="cpu").encode(TEXTS, normalize_embeddings=True)
    cosines = (vectors * expected).sum(axis=1)
    assert cosines[1] > 0.99999
    assert cosines[-1] < 0.999


@pytest.mark.slow
def test_optimum_exports_the_same_vectors(base, reference, probes, tmp_path):
    """Another exporter, as the oracle of ours; pip installs it."""
    runner = graph.GraphRunner(graph.export(base, 18, tmp_path, "optimum"))
    tokenizer = SentenceTransformer(str(base), device="cpu").tokenizer
    for text, vector in zip(probes, reference, strict=True):
        ids = tokenizer(text, truncation=True, max_length=256)["input_ids"]
        (exported,) = runner.run(["sentence_embedding"], [ids])
        assert float((exported[0] * vector).sum()) > 0.99999


def test_nothing_in_a_graph_tells_where_it_was_made(variant):
    graphs = [path for name in VARIANTS for path in variant(name).iterdir() if path.suffix in {".onnx", ".xml"}]
    assert len(graphs) == len(VARIANTS)
    places = [tempfile.gettempdir(), str(Path.home()), sys.prefix, ".py"]
    for path in graphs:
        data = path.read_bytes() if path.suffix == ".xml" else read_structure(path)
        assert not any(place.encode() in data for place in places), path


def read_structure(path: Path) -> bytes:
    """Return a graph's bytes without its weights, among which any three bytes turn up by chance."""
    exported = onnx.load(path, load_external_data=False)
    for tensor in exported.graph.initializer:
        tensor.ClearField("raw_data")
    return exported.SerializeToString()


@pytest.fixture(scope="module")
def second_cache(tmp_path_factory) -> Path:
    """Return an empty cache, into which the same graph is exported once more."""
    return tmp_path_factory.mktemp("second") / "cache"


@pytest.mark.slow  # test_convert.py has a quick one, in another process
@pytest.mark.parametrize("name", ["onnx_int8", "openvino_int8"])
def test_converting_twice_gives_the_same_bytes(variant, gemma, model, recipes, second_cache, tmp_path, name):
    convert.run(name, recipes[name], model, gemma, tmp_path / name, cache=second_cache)
    assert (tmp_path / name / "manifest.json").read_bytes() == (variant(name) / "manifest.json").read_bytes()


def test_weights_lie_beside_a_large_graph(monkeypatch, gemma, tmp_path):
    monkeypatch.setattr(onnx_model, "EXTERNAL_BYTES", 1_000_000)
    exported = graph.export(gemma, 20, tmp_path / "cache")
    files = graph.copy(exported, tmp_path / "model.onnx")
    assert files == {"graph": "model.onnx", "weights": "model.onnx.data"}
    assert (tmp_path / "model.onnx").stat().st_size < 1_000_000 < (tmp_path / "model.onnx.data").stat().st_size
    assert graph.load(tmp_path / "model.onnx") == graph.load(exported)


def test_a_graph_is_exported_once_and_again_if_its_file_changed(monkeypatch, gemma, cache_with_graph):
    (exported,) = cache_with_graph.glob("graph-*/model.onnx")
    content = exported.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("stages.convert.graph.gemma3.supports", lambda config: pytest.fail("exported twice"))
        assert graph.export(gemma, 20, cache_with_graph) == exported
    exported.write_bytes(content[:-1] + b"!")
    assert graph.export(gemma, 20, cache_with_graph).read_bytes() == content
