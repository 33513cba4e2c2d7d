"""Tiny models of sixteen architectures through the kinds: sentence-transformers' ids and vectors, whatever the model.

docs/architectures.md is the whole table; tests/benchmarks/architectures.py writes it. The kinds that take longest are
marked slow here.
"""

from pathlib import Path

import pytest
from embed_foundry import manifest

from stages import convert
from stages.common.records.base import Failure
from stages.common.records.parity import parity_of
from support import architectures

KINDS = ["fp32", "onnx_fp32", "openvino_fp32", "onnx_int8", "openvino_int8"]
SLOW = ["onnx_q8", "onnx_q4", "torch_int8", "tflite_fp32", "tflite_int8"]
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
@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_every_kind_computes_the_model(parity, name, recipe):
    result = parity(name, recipe)
    assert not isinstance(result, Failure), result.error
    assert result.hard_texts >= 38
    assert result.batch_shift_max < BATCH_SHIFT
    if recipe.endswith("fp32"):
        assert result.hard_l2_max < EXACT_L2
