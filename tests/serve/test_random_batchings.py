"""The answer to a text is the same bytes whatever it was batched with (bug row 9: ollama 6262, TEI 648)."""

import pytest
from embed_foundry import Bundle

from support import random_batchings

# Texts of the slow run: over a million together. tests/benchmarks/random_batchings.py runs any release, any number.
MANY = {"static": 930_000, "onnx_int8": 60_000, "onnx_fp32": 12_000}


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("variant", ["static", "onnx_int8", pytest.param("onnx_fp32", marks=pytest.mark.slow)])
def test_no_byte_depends_on_what_a_text_is_batched_with(released, variant, lanes):
    outcome = random_batchings.run(Bundle.load(released.folder), variant, 120, lanes, seed=lanes)
    assert outcome.differing == 0
    assert 0 < outcome.computed <= outcome.texts
    assert (outcome.shared > 0) is (variant == "static")  # MiniLM's graphs run each text alone


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("variant", MANY)
def test_a_million_random_batchings_differ_in_no_byte(released, variant):
    outcome = random_batchings.run(Bundle.load(released.folder), variant, MANY[variant], lanes=2, report=True)
    print(f"{variant}: {outcome}")
    assert outcome.texts >= MANY[variant]
    assert outcome.differing == 0
