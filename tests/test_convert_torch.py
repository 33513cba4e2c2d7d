"""PyTorch precisions: what is stored, what is computed, and the error of a precision that overflows."""

import shutil

import numpy as np
import pytest
from embed_foundry import TruncationWarning, Variant, manifest, open_variant
from embed_foundry.errors import InputError
from safetensors.torch import load_file
from transformers import AutoModel

from stages import convert
from stages.commands import compose
from support import gate_facts, tiny_gemma
from support.gate_facts import GOOD


@pytest.fixture(scope="module")
def gemma(base, tmp_path_factory):
    return tiny_gemma.write(tmp_path_factory.mktemp("gemma") / "base", base / "tokenizer.json")


@pytest.fixture
def make(params, recipes, tmp_path):
    """Convert a tiny Gemma3 and return its folder."""
    model = params.model.model_copy(update={"matryoshka": [48], "max_tokens": 1024})

    def run(name, folder):
        out = tmp_path / folder.name / name
        convert.run(name, recipes[name], model, folder, out, cache=tmp_path / "cache")
        return out

    return run


def test_int8_stores_layers_and_token_table_as_integers(converted, base):
    weights = load_file(converted("torch_int8") / "model" / "model.safetensors")
    originals = load_file(base / "model.safetensors")
    floats = {name for name, tensor in weights.items() if tensor.is_floating_point()}
    stored = {name for name in weights if not name.endswith("scale")}
    assert stored == set(originals) - {"embeddings.position_ids"}
    assert {name for name in stored & floats if originals[name].numel() > 200_000} == set()
    for name in stored - floats:
        scale = weights[name.removesuffix("weight") + "scale"].reshape(-1, 1)
        step = (weights[name].float() * scale - originals[name]).abs() / scale
        assert float(step.max()) <= 0.501, f"{name}: rounded by more than half a step"


def test_int8_loads_in_a_quarter_of_the_memory(converted):
    model = open_variant(converted("torch_int8"), 2).model
    held = sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()])
    assert held < 24e6, "MiniLM's 22.7 million weights, and not four bytes each"


@pytest.mark.parametrize("name", ["bf16", "torch_int8"])
def test_a_sharded_model_is_converted_like_a_whole_one(make, gemma, tmp_path, name):
    sharded = shutil.copytree(gemma, tmp_path / "base_in_shards")
    (sharded / "manifest.json").unlink()
    (sharded / "model.safetensors").unlink()
    model = AutoModel.from_pretrained(gemma)
    model.save_pretrained(sharded, max_shard_size="100KB")
    assert len([*sharded.glob("model-*.safetensors")]) > 2
    manifest.write(sharded, {"stage": "download"})
    variant = make(name, sharded)
    sizes = [path.stat().st_size for path in (variant / "model").glob("*.safetensors")]
    width = {"bf16": 2, "torch_int8": 1}[name]
    assert sum(sizes) < 1.3 * width * sum(tensor.numel() for tensor in model.parameters())
    whole = make(name, gemma)
    texts = ["Why is the sky blue?", "cat"]
    assert (open_variant(variant, 2).encode(texts) == open_variant(whole, 2).encode(texts)).all()


def test_opening_draws_no_bar_and_leaves_the_users_bars_on(converted, capfd):
    from transformers.utils import logging

    logging.enable_progress_bar()
    open_variant(converted("torch_int8"), 2)
    assert capfd.readouterr().err == ""
    assert logging.is_progress_bar_enabled()


def test_int8_vector_does_not_depend_on_its_neighbours(converted, probes):
    encoder = open_variant(converted("torch_int8"), 2)
    mixed = encoder.encode([*probes, "a " * 200])[:-1]
    alone = np.concatenate([encoder.encode([text]) for text in probes])
    assert np.abs(mixed - alone).max() < 1e-5


def test_int8_reports_truncated_texts_by_their_position(converted):
    encoder = open_variant(converted("torch_int8"), 2)
    with pytest.warns(TruncationWarning, match=r"2 of 5 texts exceed 256 tokens and were truncated \(first: text 1\)"):
        encoder.encode(["short", "long " * 400, "short", "medium " * 40, "longer " * 500])


def test_int8_keeps_windows_and_heads_of_gemma3(make, gemma):
    from sentence_transformers import SentenceTransformer

    encoder = open_variant(make("torch_int8", gemma), 2)
    texts = ["The cat sat on the mat.", " ".join(f"word {n} of many" for n in range(180))]
    assert encoder.count_tokens(texts)[1] > tiny_gemma.WINDOW
    expected = SentenceTransformer(str(gemma), device="cpu").encode(texts, normalize_embeddings=True)
    assert ((encoder.encode(texts) * expected).sum(axis=1) > 0.99).all()
    folder = encoder.folder / "model"
    assert manifest.sha256(folder / "2_Dense" / "model.safetensors") == manifest.sha256(
        gemma / "2_Dense" / "model.safetensors"
    )


def test_fp16_that_overflows_says_why_and_passes_no_gate(make, gemma, tmp_path, params):
    loud = tmp_path / "loud"
    tiny_gemma.copy_with_loud_tokens(gemma, loud)
    with pytest.warns(UserWarning, match=r"convert@fp16: .* not finite .* fp16 ends at 65504; in fp32 this model"):
        folder = make("fp16", loud)
    error = Variant.load(folder).parity["error"]
    assert "Use fp32 or bf16 instead." in error
    target = params.target.model_copy(update={"candidates": ["fp16", "fp32"], "required": 1, "limits": {}})
    verdict = gate_facts.decide(target, "fp32", {"fp16": GOOD | {"parity": {"error": error}}, "fp32": GOOD})
    assert verdict.variants["fp16"].reasons == [f"parity: {error}"]
    assert verdict.release.passing == ["fp32"], "what comes next in the target's order ships instead"


def test_fp16_that_does_not_overflow_is_close(converted):
    assert Variant.load(converted("fp16")).parity["cosine_min"] > 0.9999


def test_a_target_cannot_ship_fp16(root):
    with pytest.raises(InputError, match=r"candidates \['fp16'\] .* 65504"):
        compose.compose(["variant=[fp32,fp16]", "target.candidates=[fp16]"], root / "conf")
