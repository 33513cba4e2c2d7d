"""Tiny models of sixteen architectures through the kinds: sentence-transformers' ids and vectors, whatever the model.

docs/architectures.md is the whole table; tests/benchmarks/architectures.py writes it. The kinds that take longest,
and most architectures, are marked slow here.
"""

import json
from pathlib import Path

import pytest
from embed_foundry import InputError, manifest

from stages import convert
from stages.common.records.base import Failure
from stages.common.records.parity import parity_of
from support import architectures

KINDS = ["fp32", "onnx_fp32", "openvino_fp32", "onnx_int8", "openvino_int8"]
SLOW = ["onnx_q8", "onnx_q4", "torch_int8", "tflite_fp32", "tflite_int8"]
# One of each way to know a token's place: learned positions, buckets, rotation, windows, a decoder's causal mask. The
# others are marked slow.
QUICK = {"bert", "mpnet", "t5", "modernbert", "qwen3", "gemma3_text"}
EXACT_L2, BATCH_SHIFT = 1e-3, 1e-3


@pytest.fixture(scope="module")
def parity(params, recipes, conversion_cache, tmp_path_factory):
    """Return a function that gives the parity of an architecture's variant."""
    out = tmp_path_factory.mktemp("architectures")

    def measure(name: str, recipe: str):
        base = out / name / "base"
        if not base.exists():
            architectures.build(name, base)
            manifest.write(base, {"stage": "download"})
        model = params.model.model_copy(update=architectures.SETTINGS)
        folder: Path = out / name / recipe
        return parity_of(convert.run(recipe, recipes[recipe], model, base, folder, cache=conversion_cache))

    return measure


@pytest.mark.parametrize("recipe", [*KINDS, *[pytest.param(recipe, marks=pytest.mark.slow) for recipe in SLOW]])
@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in architectures.ARCHITECTURES],
)
def test_every_kind_computes_the_model(parity, name, recipe):
    result = parity(name, recipe)
    assert not isinstance(result, Failure), result.error
    assert result.hard_texts >= 38
    assert result.batch_shift_max < BATCH_SHIFT
    if recipe.endswith("fp32"):
        assert result.hard_l2_max < EXACT_L2


@pytest.mark.parametrize("name", [pytest.param("distilbert", marks=pytest.mark.slow), "qwen3"])
def test_litert_converts_it(name, params, recipes, tmp_path):
    """DistilBERT knows no token types; Qwen3's query heads share keys, and the last token is the text's vector."""
    settings = params.model.model_copy(update={"dimensions": 64, "matryoshka": [64], "max_tokens": 256, "prompts": {}})
    folder = architectures.build(name, tmp_path / name)
    manifest.write(folder, {"stage": "download"})
    recipe = recipes["tflite_fp32"].model_copy(update={"lengths": [48]})
    record = convert.run("v", recipe, settings, folder, tmp_path / "v", cache=tmp_path / "cache")
    assert record.parity["hard_l2_max"] < 1e-3
    assert record.parity["cosine_min"] > 0.9999


def test_litert_refuses_pooling_that_leaves_out_prompts_in_one_line(params, recipes, tmp_path):
    folder = architectures.build("bert", tmp_path / "bert")
    pooling = folder / "1_Pooling" / "config.json"
    pooling.write_text(json.dumps(json.loads(pooling.read_text()) | {"include_prompt": False}))
    manifest.write(folder, {"stage": "download"})
    recipe = recipes["tflite_fp32"].model_copy(update={"lengths": [32]})
    with pytest.raises(InputError, match=r"pooling leaves out a prompt's tokens .* Leave tflite out") as refusal:
        convert.run("v", recipe, params.model, folder, tmp_path / "v", cache=tmp_path / "cache")
    assert len(str(refusal.value).splitlines()) == 1
    assert not (tmp_path / "v").exists()
