"""An open bundle: the right variant, self-tested, with nothing but the wheel; what fails gives way and says so."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from embed_foundry import Bundle, FallbackWarning, InputError, IntegrityError, environment, open_bundle
from safetensors.numpy import load_file, save_file

from support import small_release
from support.small_release import ORDER


@pytest.fixture(autouse=True)
def _capable(monkeypatch):
    """Let this CPU have what the figures ask for, so that the choice is the same on every host that runs the tests."""
    monkeypatch.setattr(environment, "read_instruction_sets", lambda arch: frozenset({"avx512_vnni"}))


def test_open_takes_the_targets_first_choice_or_the_one_asked_for(released, probes):
    assert open_bundle(released.folder).variant.name == "onnx_int8"
    assert open_bundle(str(released.folder), "static").variant.name == "static"
    with pytest.raises(InputError, match=r"variant 'fp32' is not in .*; it ships \['onnx_int8'"):
        open_bundle(released.folder, "fp32")
    bundle = Bundle.load(released.folder)
    encoder = bundle.open("onnx_fp32", threads=1)
    assert encoder.threads == 1
    assert bundle.self_test(encoder).cosine > 0.999999
    assert encoder.encode(probes[:2]).shape == (2, 384)


def spoil(folder: Path, released: Path, *names: str) -> Path:
    """Return a whole bundle with other golden vectors for some variants, as if this host computed wrongly."""
    shutil.copytree(released, folder)
    golden = load_file(folder / "probes" / "golden.safetensors")
    wrong = {name: np.roll(rows, 1, axis=0) if name in names else rows for name, rows in golden.items()}
    save_file(wrong, folder / "probes" / "golden.safetensors")
    small_release.seal(folder)
    return folder


def test_a_variant_that_fails_its_self_test_gives_way_to_the_next_of_its_space(released, tmp_path):
    spoilt = spoil(tmp_path / "b", released.folder, "onnx_int8")
    with pytest.warns(FallbackWarning, match=r"using onnx_fp32; onnx_int8: self-test: cosine"):
        assert open_bundle(spoilt).variant.name == "onnx_fp32"
    with pytest.raises(IntegrityError, match="no variant passes its self-test"):
        open_bundle(spoilt, "onnx_int8")


def test_a_variant_of_another_space_never_takes_over(released, tmp_path, console):
    spoilt = spoil(tmp_path / "b", released.folder, "onnx_int8", "onnx_fp32")
    with pytest.raises(IntegrityError, match=r"onnx_int8: .*onnx_fp32: ") as caught:
        open_bundle(spoilt)
    assert "static" not in str(caught.value)
    assert open_bundle(spoilt, "static").variant.name == "static"
    assert console("verify", spoilt).returncode == 3


@pytest.mark.filterwarnings("ignore::embed_foundry.UnknownTextWarning")
def test_encode_reads_lines_and_writes_vectors(released, console):
    done = console("encode", released.folder, "--variant", "static", "--dimensions", "128", stdin="hello\n\nגשם\n")
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "warning: 1 of 3 texts have no token that static knows (first: text 1). All such texts have the same vector: "
        "do not search by it."
    ]
    rows = np.array([json.loads(line) for line in done.stdout.splitlines()])
    expected = open_bundle(released.folder, "static").encode(["hello", "", "גשם"], dimensions=128)
    np.testing.assert_allclose(rows, expected, atol=1e-7)


BAD_CALLS = {
    "invalid UTF-8": (["--variant", "static"], b"fine\n\xff\xfe\n", "line 2 of standard input is not UTF-8"),
    "unknown variant": (["--variant", "tflite"], b"x\n", "variant 'tflite' is not in"),
    "unknown prompt": (["--variant", "static", "--prompt", "query"], b"x\n", "prompt 'query' is unknown"),
    "dimensions": (["--variant", "static", "--dimensions", "999"], b"x\n", "dimensions 999 is out of range"),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_encode_refuses_bad_calls_in_one_line(released, console, case):
    arguments, stdin, words = BAD_CALLS[case]
    done = console("encode", released.folder, *arguments, stdin=stdin)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_wheel_holds_the_runtime_and_nothing_else(released):
    wheel = released.folder / Bundle.load(released.folder).raw["runtime"]
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"embed_foundry"}
    assert "embed_foundry/bundle.py" in names
    assert [name for name in names if name.endswith((".pyc", "/")) or "__pycache__" in name] == []
    required = [line.split(": ")[1] for line in metadata.splitlines() if line.startswith("Requires-Dist")]
    bare = {line.split(">")[0] for line in required if "extra ==" not in line}
    assert bare == {"numpy", "onnxruntime", "safetensors", "tokenizers", "tqdm"}


ALONE = """
import importlib.util, sys
import numpy as np
from embed_foundry import open_bundle

assert "site-packages" in importlib.util.find_spec("embed_foundry").origin, "not the wheel"
for name in ("torch", "transformers", "sentence_transformers", "stages"):
    assert importlib.util.find_spec(name) is None, name
texts = open(sys.argv[2], encoding="utf-8").read().split("\\0")
alone = lambda encoder: np.concatenate([encoder.encode([text]) for text in texts])
np.savez(sys.argv[3], **{name: alone(open_bundle(sys.argv[1], name, threads=2)) for name in sys.argv[4:]})
"""


@pytest.fixture(scope="module")
def empty_python(released, tmp_path_factory) -> Path:
    """Return the Python of a new environment that holds the bundle's wheel and what that asks for, no more."""
    folder = tmp_path_factory.mktemp("venv")
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    wheel = released.folder / Bundle.load(released.folder).raw["runtime"]
    install = [*uv, "pip", "install", "--quiet", "--python", python, wheel]
    for attempt in ([*install, "--offline"], install):  # uv's cache first: no network needed where it is warm
        done = subprocess.run(attempt, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode == 0:
            return python
    pytest.skip(f"nothing can be installed here: {done.stderr.strip().splitlines()[-1]}")


def test_the_wheel_alone_encodes_every_shipped_variant(released, empty_python, probes, reference, tmp_path):
    (tmp_path / "texts").write_text("\0".join(probes), encoding="utf-8")
    program = [empty_python, "-c", ALONE, released.folder, tmp_path / "texts", tmp_path / "vectors.npz", *ORDER]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(program, cwd=tmp_path, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    vectors = np.load(tmp_path / "vectors.npz")
    assert (vectors["onnx_fp32"] * reference).sum(axis=1).min() >= 0.9999
    for name in ORDER:
        encoder = open_bundle(released.folder, name, threads=2)
        expected = np.concatenate([encoder.encode([text]) for text in probes])
        assert (vectors[name] * expected).sum(axis=1).min() >= 0.999, name
    console = empty_python.with_name("embed-foundry")
    assert subprocess.run([console, "verify", released.folder], cwd=tmp_path, env=clean, check=False).returncode == 0
    usage = subprocess.run([console, "--help"], env=clean, capture_output=True, text=True, check=True).stdout
    assert "verify" in usage
    assert "compose" not in usage, "a build's command where there is no clone"
