"""Each kind converts the real model into a variant that is close to it and describes itself, the same bytes twice."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from embed_foundry import Variant, manifest, open_variant
from embed_foundry.errors import InputError

from stages import convert

# The least that a sound conversion of MiniLM reaches; measured values are higher.
COSINE_MIN = {"fp32": 0.99999, "bf16": 0.9995, "onnx_fp32": 0.9999, "openvino_fp32": 0.9999} | {
    "onnx_q8": 0.995,
    "torch_int8": 0.985,
    "onnx_int8": 0.97,
    "openvino_int8": 0.98,
    "onnx_q4": 0.9,
}
MEGABYTES_MAX = {
    "fp32": 95,
    "bf16": 50,
    "onnx_fp32": 95,
    "onnx_int8": 25,
    "openvino_int8": 24,
    "torch_int8": 25,
    "static": 9,
}


@pytest.mark.parametrize("name", COSINE_MIN)
def test_stays_close_to_the_original(converted, name):
    parity = Variant.load(converted(name)).parity
    assert parity["texts"] == 50
    assert COSINE_MIN[name] <= parity["cosine_min"] <= parity["cosine_mean"] <= 1.000001
    assert min(parity["one_token"], parity["at_limit"], parity["padded_batch_min"]) >= COSINE_MIN[name] - 0.02
    assert parity["similarity_spearman"] >= 0.98
    assert parity["batch_shift_max"] <= (0.02 if name == "bf16" else 1e-4)


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
def test_a_folder_describes_itself(converted, params, recipes, base, name):
    folder = converted(name)
    body, variant = manifest.verify(folder), Variant.load(folder)
    assert body.stage == f"convert@{name}"
    assert body.inputs == {"base": manifest.read(base).digest}
    assert body.parameters["variant"] == recipes[name].model_dump(mode="json")
    assert body.size < MEGABYTES_MAX[name] * 1e6
    assert (variant.name, variant.kind) == (name, recipes[name].kind)
    assert variant.model == f"{params.model.repo}@{params.model.revision}"
    assert (variant.max_tokens, variant.prompts) == (params.model.max_tokens, params.model.prompts)
    assert variant.dimensions == (256 if name == "static" else 384)
    assert variant.matryoshka == ((256, 128) if name == "static" else (384, 256, 128))
    assert all((folder / file).exists() for file in variant.files.values())


def test_every_recorded_setting_is_a_parameter_of_the_stage(converted, root):
    """A value that is recorded but is no parameter of the stage would change bytes and run nothing."""
    declared = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]["convert"]["do"]["params"]
    recorded = manifest.read(converted("fp32")).parameters["model"]
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


# The commands `python -m stages.convert NAME` in one process, which loads torch once.
COMMANDS = """
import runpy, sys
for name in sys.argv[1:]:
    sys.argv[1:] = [name]
    try:
        runpy.run_module("stages.convert", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise
"""


@pytest.mark.parametrize("names", [["onnx_int8"], pytest.param(["openvino_int8", "static"], marks=pytest.mark.slow)])
def test_converting_twice_gives_the_same_bytes(converted, workplace, names):
    """The second time in another process, folder, time zone, locale and hash seed."""
    odd = {"TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONHASHSEED": "7", "HOME": str(workplace)}
    ended = run_python(workplace, "-c", COMMANDS, *names, **odd)
    assert ended.returncode == 0, ended.stderr
    for name in names:
        again = manifest.verify(workplace / "variants" / name)
        assert again.digest == manifest.read(converted(name)).digest
    expected = {file for name in names for file in (name, f".{name}.lock")}
    assert {path.name for path in (workplace / "variants").iterdir()} == expected, "scratch was left behind"


def run_stage(workplace: Path, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the stage as DVC does."""
    return run_python(workplace, "-m", "stages.convert", *args, **environment)


def run_python(folder: Path, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args], cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("args", [["fp33"], [], ["fp32", "bf16"]])
def test_unknown_name_ends_with_2_and_lists_the_variants(workplace, args):
    ended = run_stage(workplace, *args)
    assert ended.returncode == 2
    assert "expected one of ['bf16', 'fp32', 'onnx_fp32', 'onnx_int8', 'openvino_int8', 'static']" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_a_flipped_bit_in_the_original_ends_with_3_and_names_what_to_run(workplace, base):
    copy = workplace / "models" / "base"
    copy.unlink()
    shutil.copytree(base, copy)
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(50_000_000)
        byte = file.read(1)[0]
        file.seek(50_000_000)
        file.write(bytes([byte ^ 1]))
    ended = run_stage(workplace, "static")
    assert ended.returncode == 3
    assert "models/base/model.safetensors: has sha256" in ended.stderr
    assert "download" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not (workplace / "variants" / "static").exists()


def test_a_missing_original_ends_with_3(workplace):
    (workplace / "models" / "base").unlink()
    ended = run_stage(workplace, "static")
    assert ended.returncode == 3
    assert "models/base/manifest.json: missing" in ended.stderr


def test_static_refuses_more_dimensions_than_the_model_has(params, recipes, base, conversion_cache, tmp_path):
    recipe = recipes["static"].model_copy(update={"dimensions": 385})
    with pytest.raises(InputError, match="dimensions 385 exceeds the model's 384"):
        convert.run("static", recipe, params.model, base, tmp_path / "static", cache=conversion_cache)
    assert not (tmp_path / "static").exists()


def test_space_changes_with_what_defines_it(params, base, tmp_path):
    prompted = params.model.model_copy(update={"prompts": {"query": "query: "}})
    spaces = {
        convert.compute_space_id(base, params.model, None),
        convert.compute_space_id(base, params.model, {"dimensions": 128}),
        convert.compute_space_id(base, prompted, None),
    }
    other = tmp_path / "other"
    shutil.copytree(base, other)
    (other / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    manifest.write(other, {"stage": "download"})
    spaces.add(convert.compute_space_id(other, params.model, None))
    assert len(spaces) == 4
    renamed = params.model.model_copy(update={"name": "x", "source": "hub", "matryoshka": [384]})
    assert convert.compute_space_id(base, renamed, None) in spaces
