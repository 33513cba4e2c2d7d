"""EmbeddingGemma 2: its text tower is taken out of the checkpoint, and every kind gives the tower's vectors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from embed_foundry import Variant, manifest, open_variant
from embed_foundry.errors import InputError, IntegrityError
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from stages import convert, download
from stages.common.config import Model
from support import tiny_embedding_gemma2 as tiny

# The longest exceeds 1024 tokens, from which on sliding layers are computed in blocks.
TEXTS = ["cat", "Why is the sky blue?", *("the river " * n + f"ends after {n}" for n in (20, 160, 300))]
# Random weights have no redundancy to hide rounding in, so these bounds are for this model, not for trained ones.
COSINE_MIN = {"onnx_fp32": 0.9999, "onnx_q8": 0.99, "onnx_int8": 0.95, "onnx_q4": 0.6, "openvino_int8": 0.95}


@pytest.fixture(scope="module")
def multimodal():
    return tiny.build()


@pytest.fixture(scope="module")
def checkpoint(multimodal, tmp_path_factory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("multimodal") / "checkpoint", multimodal)


@pytest.fixture(scope="module")
def model(checkpoint) -> Model:
    return tiny.config(checkpoint)


@pytest.fixture(scope="module")
def tower(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tower") / "base"
    download.run(model, folder)
    return folder


@pytest.fixture(scope="module")
def expected(tower) -> np.ndarray:
    original = SentenceTransformer(str(tower), device="cpu")
    assert original.tokenizer(TEXTS[-1], return_length=True)["length"][0] > 1100
    return np.concatenate([original.encode([text], normalize_embeddings=True) for text in TEXTS])


def test_the_tower_alone_gives_the_vectors_of_the_multimodal_model(multimodal, tower, expected):
    tokenizer = SentenceTransformer(str(tower), device="cpu").tokenizer
    for text, vector in zip(TEXTS, expected, strict=True):
        with torch.no_grad():
            tokens = multimodal(input_ids=torch.tensor([tokenizer(text)["input_ids"]])).last_hidden_state
        pooled = torch.nn.functional.normalize(tokens.mean(1), dim=-1)[0].numpy()
        assert float(pooled @ vector) > 0.99999


def test_the_folder_holds_nothing_but_the_tower(multimodal, tower):
    record = manifest.read(tower).parameters["loaded"]
    assert (record["architecture"], record["modalities"], record["dimensions"]) == (
        "embedding_gemma2_text",
        ["text"],
        tiny.DIMENSIONS,
    )
    assert not record["weights"]["random"]
    assert not record["weights"]["unread"]
    assert not (tower / "preprocessor_config.json").exists()
    weights = load_file(tower / "model.safetensors")
    own = multimodal.language_model.state_dict()
    assert weights.keys() == own.keys()
    assert all(torch.equal(weights[name], own[name]) for name in own)


def test_shards_give_the_same_bytes_as_one_file(multimodal, tower, tmp_path):
    shards = tiny.write(tmp_path / "checkpoint", multimodal, shard_size="200KB")
    assert len([*shards.glob("*.safetensors")]) > 2
    download.run(tiny.config(shards), tmp_path / "base")
    for name in ("config.json", "model.safetensors", "tokenizer_config.json", "sentence_bert_config.json"):
        assert (tmp_path / "base" / name).read_bytes() == (tower / name).read_bytes(), name
    assert manifest.files_of(tmp_path / "base") == manifest.files_of(tower)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_checkpoint_that_is_not_what_it_says_is_refused(multimodal, tmp_path):
    folder = tiny.write(tmp_path / "checkpoint", multimodal)
    edit(folder / "sentence_bert_config.json", '"image"', '"message"')
    with pytest.raises(InputError, match="puts every text through a chat template"):
        download.run(tiny.config(folder), tmp_path / "base")
    edit(folder / "sentence_bert_config.json", '"message"', '"image"')
    edit(folder / "config.json", '"text_config"', '"words_config"')
    with pytest.raises(IntegrityError, match="has no text_config"):
        download.run(tiny.config(folder), tmp_path / "base")


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


# The two others are rounded as Gemma3 is, in test_convert_graph.py.
SLOW = {"onnx_q8", "onnx_q4"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in COSINE_MIN]
)
def test_every_kind_gives_the_towers_vectors(tower, model, recipes, expected, cache, tmp_path, name):
    record = convert.run(name, recipes[name], model, tower, tmp_path / name, cache=cache)
    assert "error" not in record.parity
    encoder = open_variant(tmp_path / name, 2)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    assert alone.shape == expected.shape
    assert (alone * expected).sum(axis=1).min() >= COSINE_MIN[name]
    np.testing.assert_allclose(encoder.encode(TEXTS, batch_size=len(TEXTS)), alone, atol=1e-4)


def test_static_is_distilled_from_the_tower(tower, model, recipes, cache, tmp_path):
    recipe = recipes["static"].model_copy(update={"dimensions": 16, "fit": None})
    record = convert.run("static", recipe, model, tower, tmp_path / "static", cache=cache)
    assert "error" not in record.parity
    assert open_variant(tmp_path / "static", 1).encode(["cat", "dog"]).shape == (2, 16)


@pytest.mark.slow
def test_litert_attends_in_the_window(tower, model, recipes, cache, tmp_path):
    """As Gemma3 does in test_convert_tflite.py."""
    recipe = recipes["tflite_fp32"].model_copy(update={"lengths": [300]})
    convert.run("tflite_fp32", recipe, model, tower, tmp_path / "v", cache=cache)
    assert Variant.load(tmp_path / "v").parity["cosine_min"] > 0.9999


def test_fp16_is_refused(tower, model, recipes, cache, tmp_path):
    with pytest.raises(InputError, match="EmbeddingGemma 2's model card says that it overflows float16"):
        convert.run("fp16", recipes["fp16"], model, tower, tmp_path / "v", cache=cache)
