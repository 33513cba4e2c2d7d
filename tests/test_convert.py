"""Each family converts the real model into a variant that is close to it, described by name, the same bytes twice."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from embed_foundry import IntegrityError, Variant, manifest, open_variant
from embed_foundry.errors import InputError

from stages import compose, convert
from stages.common.config import StaticVariant

# What a sound conversion of MiniLM reaches at least; measured values lie above: 1.0, 0.99987, 1.0, 0.981.
COSINE_MIN = {"fp32": 0.99999, "bf16": 0.9995, "onnx_fp32": 0.9999, "onnx_int8": 0.95}
MEGABYTES_MAX = {"fp32": 95, "bf16": 50, "onnx_fp32": 95, "onnx_int8": 25, "static": 9}


@pytest.mark.parametrize("name", COSINE_MIN)
def test_stays_close_to_the_original(converted, name):
    parity = Variant.load(converted(name)).parity
    assert parity["texts"] == 50
    assert COSINE_MIN[name] <= parity["cosine_min"] <= parity["cosine_mean"] <= 1.000001
    assert min(parity["one_token"], parity["at_limit"], parity["padded_batch_min"]) >= COSINE_MIN[name] - 0.02
    assert parity["similarity_spearman"] >= 0.98
    # int8 activations take their scale from the whole batch, which moves vectors; nothing else may.
    assert parity["batch_shift_max"] <= {"onnx_int8": 0.3, "bf16": 0.02}.get(name, 1e-4)


def test_static_has_a_space_of_its_own_and_ranks_alike(converted):
    static, original = (Variant.load(converted(name)) for name in ("static", "fp32"))
    assert static.space_id != original.space_id
    assert "cosine_min" not in static.parity
    assert 0.4 < static.parity["similarity_spearman"] < 0.99
    assert static.parity["batch_shift_max"] == 0.0


def test_all_others_share_the_original_space(converted):
    assert len({Variant.load(converted(name)).space_id for name in COSINE_MIN}) == 1


def test_parity_names_the_worst_text_and_is_what_a_user_would_measure(converted, probes, reference):
    variant = Variant.load(converted("onnx_int8"))
    encoder = open_variant(converted("onnx_int8"), 2)
    cosines = (np.concatenate([encoder.encode([text]) for text in probes]) * reference).sum(axis=1)
    assert variant.parity["worst_text"] == probes[int(cosines.argmin())]
    assert variant.parity["cosine_min"] == pytest.approx(float(cosines.min()), abs=1e-5)
    assert variant.parity["cosine_mean"] == pytest.approx(float(cosines.mean()), abs=1e-5)


@pytest.mark.parametrize("name", MEGABYTES_MAX)
def test_folder_says_all_about_itself(converted, params, base, name):
    folder = converted(name)
    body, variant = manifest.verify(folder), Variant.load(folder)
    assert body["stage"] == f"convert@{name}"
    assert body["inputs"] == {"base": manifest.read(base)["digest"]}
    assert body["parameters"]["variant"] == params.variants[name].model_dump(mode="json")
    assert sum(fact["size"] for fact in body["files"].values()) < MEGABYTES_MAX[name] * 1e6
    assert (variant.name, variant.kind) == (name, params.variants[name].kind)
    assert variant.model == f"{params.model.repo}@{params.model.revision}"
    assert (variant.max_tokens, variant.prompts) == (params.model.max_tokens, params.model.prompts)
    assert variant.dimensions == (256 if name == "static" else 384)
    assert variant.matryoshka == ((256, 128) if name == "static" else (384, 256, 128))
    assert all((folder / file).exists() for file in variant.files.values())


def test_records_only_what_dvc_would_convert_again_for(converted, root):
    """A value that is recorded but is no parameter of the stage would change bytes without a re-run."""
    import yaml

    declared = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]["convert"]["do"]["params"]
    recorded = manifest.read(converted("fp32"))["parameters"]["model"]
    assert {f"model.{key}" for key in recorded} <= set(declared)


@pytest.mark.parametrize("name", ["onnx_fp32", "onnx_int8"])
def test_graph_carries_both_outputs_by_name(converted, name):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(converted(name) / "model.onnx"), providers=["CPUExecutionProvider"])
    assert {item.name: len(item.shape) for item in session.get_outputs()} == {
        "last_hidden_state": 3,
        "sentence_embedding": 2,
    }
    assert {item.name for item in session.get_inputs()} >= {"input_ids", "attention_mask"}
    ids, mask = np.array([[101, 5855, 102, 0, 0]]), np.array([[1, 1, 1, 0, 0]])
    tokens, sentence = session.run(
        ["last_hidden_state", "sentence_embedding"], {"input_ids": ids, "attention_mask": mask}
    )
    assert tokens.shape == (1, 5, 384)
    pooled = tokens[0, :3].mean(axis=0)  # MiniLM: mean over the tokens that are not padding, then unit norm
    np.testing.assert_allclose(sentence[0], pooled / np.linalg.norm(pooled), atol=1e-5)


def test_torch_copies_the_original_byte_for_byte(converted, base):
    copied = converted("fp32") / "model"
    assert manifest.files_of(copied) == manifest.files_of(base)
    assert all(manifest.sha256(copied / name) == manifest.sha256(base / name) for name in manifest.files_of(base))


@pytest.mark.parametrize("name", ["bf16", "onnx_int8", "static"])
def test_converting_twice_gives_the_same_bytes(converted, params, base, tmp_path, name):
    """In another process, folder, time zone, locale and hash seed."""
    (tmp_path / "params.yaml").write_bytes((converted(name).parent / "params.yaml").read_bytes())
    (tmp_path / "models").mkdir()
    shutil.copytree(base, tmp_path / "models" / "base")
    odd = {"TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONHASHSEED": "7", "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "stages.convert", name]
    subprocess.run(command, cwd=tmp_path, env=os.environ | odd, check=True, capture_output=True)
    assert (tmp_path / "variants" / name / manifest.NAME).read_bytes() == (converted(name) / manifest.NAME).read_bytes()
