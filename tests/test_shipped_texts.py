"""What sentence-transformers does to a text before the model is what a variant does.

Models with settings that sentence-transformers applies as it loads, from public reports of vectors that were silently
wrong. Parity compares token ids and vectors of the hard texts; a difference makes it a Failure.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from embed_foundry import InputError, manifest, open_variant
from sentence_transformers import SentenceTransformer

from stages import convert
from stages.common.records.base import Failure
from stages.common.records.parity import parity_of
from stages.convert.base_vectors import BaseModelVectors
from stages.convert.tokenizer import load_tokenizer
from support import architectures
from support.saved_models import edit, move_transformer

EXACT = ["fp32", "onnx_fp32", "openvino_fp32"]
PROMPTS = {"query": "Represent this query: ", "document": ""}


def write_peculiar(folder: Path) -> Path:
    """Write a BERT with everything that sentence-transformers sets beside the weights, in the layout of before 2.0."""
    architectures.build("bert", folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"] = {"type": "NFC"}  # cased: sentence-transformers alone lowers the case
    tokenizer["truncation"] = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    token = {"id": architectures.ROWS, "content": "<image_soft_token>", "special": True, "normalized": False}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
    tokenizer["added_tokens"].append(token | flags)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    edit("tokenizer_config.json", truncation_side="left", do_lower_case=False)(folder)
    edit("sentence_bert_config.json", do_lower_case=True, max_seq_length=64)(folder)
    edit("1_Pooling/config.json", include_prompt=False)(folder)
    edit("config_sentence_transformers.json", prompts=PROMPTS)(folder)
    move_transformer(folder)
    return folder


def write_causal(folder: Path) -> Path:
    """Write a Qwen3 whose batches are padded to the left, and whose tokenizer adds no special tokens."""
    architectures.build("qwen3", folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer | {"post_processor": None}))
    edit("tokenizer_config.json", padding_side="left", add_eos_token=True)(folder)
    edit("config_sentence_transformers.json", prompts={"query": "Instruct: find\nQuery: "})(folder)
    return folder


MODELS = {
    "peculiar": (write_peculiar, 64, PROMPTS),
    "causal": (write_causal, 256, {"query": "Instruct: find\nQuery: "}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Return the base folder of each model."""
    written = {}
    for name, (write, *_) in MODELS.items():
        written[name] = write(tmp_path_factory.mktemp("models") / name)
        manifest.write(written[name], {"stage": "download"})
    return written


@pytest.fixture(scope="module")
def variant(folders, params, recipes, conversion_cache, tmp_path_factory):
    """Return a function that gives the folder of a model's variant."""
    out = tmp_path_factory.mktemp("variants")

    def folder(name: str, recipe: str) -> Path:
        target = out / name / recipe
        if not target.exists():
            _, max_tokens, prompts = MODELS[name]
            changes = {"dimensions": 64, "matryoshka": [64], "max_tokens": max_tokens, "prompts": prompts}
            model = params.model.model_copy(update=changes)
            convert.run(recipe, recipes[recipe], model, folders[name], target, cache=conversion_cache)
        return target

    return folder


@pytest.mark.parametrize("recipe", EXACT)
@pytest.mark.parametrize("name", MODELS)
def test_hard_texts_have_the_ids_and_vectors_of_sentence_transformers(variant, name, recipe):
    encoder = open_variant(variant(name, recipe), 2)
    parity = parity_of(encoder.variant)
    assert not isinstance(parity, Failure), parity.error
    assert parity.hard_texts >= 70
    assert parity.hard_l2_max < 1e-3


def test_a_static_table_is_fitted_to_vectors_that_leave_out_the_prompt(folders, conversion_cache):
    folder, prompt = folders["peculiar"], PROMPTS["query"]
    tokenizer = load_tokenizer(folder, conversion_cache)
    texts = ["cat", "The Quick brown FOX"]
    rows = tokenizer.tokenize([prompt + text for text in texts], 64)
    vectors = BaseModelVectors(folder, conversion_cache).encode(rows, "texts", tokenizer.count_prompt(prompt))
    expected = SentenceTransformer(str(folder), device="cpu").encode(texts, prompt=prompt, normalize_embeddings=True)
    distances = np.linalg.norm(vectors - expected, axis=1)
    with_prompt = BaseModelVectors(folder, conversion_cache).encode(rows, "texts")
    assert distances.max() < 0.05 < np.linalg.norm(with_prompt - expected, axis=1).min()  # bf16


@pytest.mark.parametrize("recipe", EXACT)
@pytest.mark.parametrize("name", MODELS)
def test_a_batch_with_a_prompt_equals_sentence_transformers(folders, variant, name, recipe):
    """Capitals, a text over the limit, padding and a prompt in one call."""
    texts = ["CAT", "The Quick brown FOX", "begin " + "the river ends " * 200 + "end"]
    model = SentenceTransformer(str(folders[name]), device="cpu")
    for prompt in (None, "query"):
        text = MODELS[name][2][prompt] if prompt else None
        expected = model.encode(texts, prompt=text, normalize_embeddings=True)
        with pytest.warns(UserWarning, match="from the left" if name == "peculiar" else "were truncated"):
            vectors = open_variant(variant(name, recipe), 2).encode(texts, prompt=prompt)
        np.testing.assert_allclose(vectors, expected, atol=1e-5)


@pytest.mark.parametrize("recipe", EXACT)
def test_a_token_without_a_row_is_refused_by_text_and_name(variant, recipe):
    encoder = open_variant(variant("peculiar", recipe), 2)
    with pytest.raises(InputError, match=r"text 1 holds the token '<image_soft_token>' \(id 600\)") as refused:
        encoder.encode(["fine", "quotes <image_soft_token> here", "fine"], batch_size=1)
    assert "rows for 600" in str(refused.value)
    assert encoder.encode(["fine"]).shape == (1, 64)


@pytest.mark.parametrize("recipe", EXACT)
def test_a_text_without_a_token_is_refused_by_name(variant, recipe):
    encoder = open_variant(variant("causal", recipe), 2)
    with pytest.raises(InputError, match="text 2 has no token"):
        encoder.encode(["fine", "also fine", ""])
    assert encoder.encode([""], prompt="query").shape == (1, 64)


def test_int8_keeps_the_layout_of_before_2_0(folders, variant):
    folder = variant("peculiar", "torch_int8")
    assert not {"config.json", "model.safetensors", "tokenizer.json"} & {
        path.name for path in (folder / "model").iterdir()
    }
    texts = ["CAT", "The Quick brown FOX"]
    expected = SentenceTransformer(str(folders["peculiar"]), device="cpu").encode(texts, normalize_embeddings=True)
    assert (open_variant(folder, 2).encode(texts) * expected).sum(axis=1).min() > 0.99


def test_a_tokenizer_without_a_type_makes_a_table(folders, params, recipes, conversion_cache, tmp_path):
    """Files of before tokenizers 0.9 do not say model.type; sentence-transformers' lower case is the table's."""
    base = shutil.copytree(folders["peculiar"], tmp_path / "base")
    path = base / "0_Transformer" / "tokenizer.json"
    content = json.loads(path.read_text())
    del content["model"]["type"]
    path.write_text(json.dumps(content))
    manifest.write(base, {"stage": "download"})
    model = params.model.model_copy(update={"dimensions": 64, "matryoshka": [64], "max_tokens": 64, "prompts": {}})
    recipe = recipes["static"].model_copy(update={"dimensions": 32})
    convert.run("static", recipe, model, base, tmp_path / "static", cache=conversion_cache)
    encoder = open_variant(tmp_path / "static", 2)
    np.testing.assert_allclose(encoder.encode(["THE RIVER"]), encoder.encode(["the river"]))
