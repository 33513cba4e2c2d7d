"""The release: holds what was judged, is refused in words if anything differs, and runs with nothing but its wheel."""

import dataclasses
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import release
from embed_foundry import (
    Bundle,
    FoundryError,
    GateError,
    InputError,
    IntegrityError,
    cli,
    manifest,
    open_bundle,
)
from embed_foundry.bundle import FallbackWarning
from safetensors.numpy import load_file, save_file

ORDER = ["onnx_int8", "onnx_fp32", "static"]


@pytest.fixture(scope="module")
def mine(released, tmp_path_factory) -> Path:
    """Return a copy of the bundle that a test may change if it changes it back."""
    return shutil.copytree(released.folder, tmp_path_factory.mktemp("mine") / "release")


@pytest.fixture
def build(released, tmp_path) -> release.Build:
    """Return the build with copies of its measurements and verdict, which a test may change."""
    sources = released.sources
    for name in ("catalog", "quality", "latency", "gate", "report"):
        shutil.copytree(getattr(sources, name), tmp_path / name)
    copies = {name: tmp_path / name for name in ("catalog", "quality", "latency", "gate", "report")}
    return dataclasses.replace(released, sources=dataclasses.replace(sources, **copies))


def verify(folder: Path, capsys) -> tuple[int, str]:
    """Run `embed-foundry verify` in this process; return its exit code and stderr."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["verify", str(folder)])
    return ended.value.code, capsys.readouterr().err


def test_verify_passes_and_tells_the_self_tests(released, console):
    done = console("verify", released.folder)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == ORDER
    assert all(float(line.split()[-1]) > 0.99999 for line in lines[:-1])
    assert lines[-1] == f"{released.folder}: verified, digest {manifest.read(released.folder)['digest']}"


def test_holds_what_is_needed_to_trust_and_run_it(released):
    folder, sources = released.folder, released.sources
    names = set(manifest.files_of(folder))
    assert {
        "LICENSE",
        "NOTICE",
        "SHA256SUMS",
        "bundle.json",
        "probes/probes.json",
        "probes/golden.safetensors",
    } <= names
    assert {name.split("/")[1] for name in names if name.startswith("variants/")} == set(ORDER)
    for name in ORDER:
        shipped = manifest.verify(folder / "variants" / name)
        assert shipped["digest"] == manifest.read(sources.variants / name)["digest"]
    for path in (sources.gate / "verdict.json", sources.quality / "scores.json", sources.latency / "latency.json"):
        assert (folder / "evidence" / path.name).read_bytes() == path.read_bytes()
    facts = Bundle.load(folder).facts
    assert facts["order"] == ORDER
    assert facts["model"]["revision"] == released.model.revision
    assert all(check["passes"] for name in ORDER for check in facts["variants"][name]["checks"])
    notice = (folder / "NOTICE").read_text()
    assert released.model.license.name in notice
    assert released.model.license.url in notice
    golden = load_file(folder / "probes" / "golden.safetensors")
    probes = json.loads((folder / "probes" / "probes.json").read_text())
    assert {name: rows.shape for name, rows in golden.items()} == {
        name: (len(probes), 256 if name == "static" else 384) for name in ORDER
    }


def test_no_byte_of_it_tells_where_or_by_whom_it_was_built(released, root):
    marks = [str(root), str(released.folder.parent), str(Path.home()) + "/"]
    marks += [platform.node()] if len(platform.node()) > 5 else []  # a shorter name may stand there by chance
    for name in manifest.files_of(released.folder):
        data = (released.folder / name).read_bytes()
        assert [mark for mark in marks if mark.encode() in data] == [], name


def test_sha256sum_agrees(released):
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    done = subprocess.run(command, cwd=released.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    listed = {line.split("  ", 1)[1] for line in (released.folder / "SHA256SUMS").read_text().splitlines()}
    assert listed == set(manifest.files_of(released.folder)) - {"SHA256SUMS"}


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x10]))


def test_one_flipped_byte_in_any_file_is_found_and_named(mine, capsys):
    names = [*manifest.files_of(mine), manifest.NAME]
    assert len(names) > 20
    for name in names:
        size = (mine / name).stat().st_size
        for at in {0, size // 2, size - 1}:
            flip(mine / name, at)
            code, said = verify(mine, capsys)
            assert (code, str(mine / name) in said) == (3, True), f"{name} at {at}: {said}"
            flip(mine / name, at)
    assert verify(mine, capsys)[0] == 0


@pytest.mark.parametrize("name", ["bundle.json", "variants/onnx_int8/model.onnx", "evidence/verdict.json"])
def test_the_console_script_ends_with_3_and_names_the_file(mine, console, name):
    flip(mine / name, 20)
    done = console("verify", mine)
    flip(mine / name, 20)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(f"error: {mine / name}: has sha256")
    assert len(done.stderr.splitlines()) == 1


def test_an_added_removed_or_linked_file_is_found(mine, capsys, tmp_path):
    (mine / "variants" / "static" / "more.txt").write_text("")
    code, said = verify(mine, capsys)
    assert code == 3
    assert "variants/static/more.txt: not listed in the manifest" in said
    (mine / "variants" / "static" / "more.txt").unlink()
    weights = mine / "variants" / "static" / "table.safetensors"
    weights.rename(tmp_path / "table")
    code, said = verify(mine, capsys)
    assert code == 3
    assert f"{weights}: missing, the manifest lists it" in said
    weights.symlink_to(tmp_path / "table")
    code, said = verify(mine, capsys)
    assert code == 3
    assert f"{weights}: is not a regular file" in said
    weights.unlink()
    (tmp_path / "table").rename(weights)
    assert verify(mine, capsys)[0] == 0


def test_what_is_no_bundle_is_refused(released, capsys, tmp_path):
    assert verify(tmp_path / "nowhere", capsys)[0] == 2
    code, said = verify(tmp_path, capsys)
    assert code == 3
    assert "manifest.json: missing" in said
    code, said = verify(released.folder / "variants" / "static", capsys)  # whole, but only a variant
    assert code == 3
    assert "this is no release bundle" in said


def test_a_bundle_for_another_runtime_names_its_wheel(released, tmp_path):
    facts = json.loads((released.folder / "bundle.json").read_text())
    (tmp_path / "bundle.json").write_text(json.dumps(facts | {"schema": 2}))
    manifest.write(tmp_path, {"stage": "bundle"})
    with pytest.raises(IntegrityError, match=r"has schema 2, this runtime reads 1.*wheel"):
        Bundle.load(tmp_path)


def test_open_takes_the_targets_first_choice_or_the_one_asked_for(released, probes):
    assert open_bundle(released.folder).variant.name == "onnx_int8"
    assert open_bundle(str(released.folder), "static").variant.name == "static"
    with pytest.raises(InputError, match=r"variant 'fp32' is not in .*; it ships \['onnx_int8'"):
        open_bundle(released.folder, "fp32")
    bundle = Bundle.load(released.folder)
    encoder = bundle.open("onnx_fp32", threads=1)
    assert encoder.threads == 1
    assert bundle.self_test(encoder) > 0.999999
    assert encoder.encode(probes[:2]).shape == (2, 384)


def spoil(folder: Path, released: Path, *names: str) -> Path:
    """Return a whole bundle in whose record some variants encoded differently, as if this host computed wrongly."""
    shutil.copytree(released, folder)
    golden = load_file(folder / "probes" / "golden.safetensors")
    wrong = {name: np.roll(rows, 1, axis=0) if name in names else rows for name, rows in golden.items()}
    save_file(wrong, folder / "probes" / "golden.safetensors")
    manifest.write(folder, {"stage": "bundle"})
    return folder


def test_a_variant_that_fails_its_self_test_gives_way_to_the_next_of_its_space(released, tmp_path):
    spoilt = spoil(tmp_path / "b", released.folder, "onnx_int8")
    with pytest.warns(FallbackWarning, match=r"using onnx_fp32; onnx_int8: self-test: cosine"):
        assert open_bundle(spoilt).variant.name == "onnx_fp32"
    with pytest.raises(IntegrityError, match="no variant passes its self-test"):
        open_bundle(spoilt, "onnx_int8")


def test_a_variant_of_another_space_never_takes_over(released, tmp_path, capsys):
    spoilt = spoil(tmp_path / "b", released.folder, "onnx_int8", "onnx_fp32")
    with pytest.raises(IntegrityError, match=r"onnx_int8: .*onnx_fp32: ") as caught:
        open_bundle(spoilt)
    assert "static" not in str(caught.value)
    assert open_bundle(spoilt, "static").variant.name == "static"
    assert verify(spoilt, capsys)[0] == 3


def test_encode_reads_lines_and_writes_vectors(released, console):
    done = console("encode", released.folder, "--variant", "static", "--dimensions", "128", stdin="hello\n\nגשם\n")
    assert (done.returncode, done.stderr) == (0, "")
    rows = np.array([json.loads(line) for line in done.stdout.splitlines()])
    expected = open_bundle(released.folder, "static").encode(["hello", "", "גשם"], dimensions=128)
    np.testing.assert_allclose(rows, expected, atol=1e-7)


BAD_CALLS = {
    "invalid UTF-8": (["--variant", "static"], b"fine\n\xff\xfe\n", "text 1 holds a lone surrogate"),
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


def refused(build: release.Build, error: type[FoundryError]) -> str:
    """Return the message with which the bundle stage refuses; nothing is published."""
    out = build.sources.catalog.parent / "refused"
    with pytest.raises(error) as caught:
        build.release(out)
    assert not out.exists()
    return str(caught.value)


def test_a_failed_gate_ends_with_4_and_every_missed_limit(build):
    slow = {name: release.times(0.5) for name in release.NAMES}
    release.write(build.sources.latency, "latency.json", {"variants": slow})
    build.judge()
    said = refused(build, GateError)
    assert GateError.code == 4
    assert f"no release for {build.target.name}: 0 of the candidates" in said
    for name in set(build.target.candidates) & set(release.NAMES):
        limits = build.target.limits[name].speedup_min
        for tokens, limit in limits.items():
            assert (
                f"{name}: speedup_min {tokens} tokens: 0.5, between 0.5 and 0.5 by 60 samples, limit {limit:g}" in said
            )
    assert "Next: read gate/verdict.json" in said


def test_a_candidate_that_failed_does_not_ship(build, tmp_path):
    times = {name: release.times() for name in release.NAMES} | {"onnx_int8": {"error": "its process died"}}
    release.write(build.sources.latency, "latency.json", {"variants": times})
    build.judge()
    assert Bundle.load(build.release(tmp_path / "release")).order == ["onnx_fp32", "static"]


def test_an_edited_verdict_is_refused(build):
    path = build.sources.gate / "verdict.json"
    path.write_text(path.read_text().replace('"passes": true', '"passes": true '))
    assert "verdict.json: has" in refused(build, IntegrityError)


@pytest.mark.parametrize("name", ["catalog", "quality", "latency"])
def test_a_verdict_about_other_inputs_is_refused(build, name):
    folder = getattr(build.sources, name)
    body = {key: value for key, value in manifest.read(folder).items() if key not in ("files", "digest", "schema")}
    manifest.write(folder, body | {"parameters": {"made": "again"}})
    said = refused(build, IntegrityError)
    assert f"is about {name} " in said
    assert "dvc repro gate" in said


def test_a_verdict_by_other_limits_is_refused(build):
    build.judge(build.target.model_copy(update={"required": 3}))
    assert "about other limits than local_cpu's" in refused(build, IntegrityError)


def test_a_variant_converted_again_since_the_catalog_is_refused(build, released, tmp_path):
    variants = tmp_path / "variants"
    for name in release.NAMES:
        (variants / name).mkdir(parents=True)
        shutil.copy(released.sources.variants / name / manifest.NAME, variants / name)
    manifest.write(variants / "static", {"stage": "convert@static"})
    changed = dataclasses.replace(build, sources=dataclasses.replace(build.sources, variants=variants))
    assert "dvc repro convert@static catalog" in refused(changed, IntegrityError)


@pytest.fixture
def elsewhere(monkeypatch):
    """Make this process build as somebody else would: another umask and time zone."""
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    mask = os.umask(0o077)
    yield
    os.umask(mask)
    monkeypatch.undo()
    time.tzset()


def test_another_umask_time_zone_and_clone_give_the_same_bytes(released, root, tmp_path, elsewhere):
    project = tmp_path / "another" / "clone"
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(
        root / "stages" / "runtime", project / "stages" / "runtime", ignore=skip, copy_function=shutil.copyfile
    )
    for name in ("LICENSE", "pyproject.toml"):
        shutil.copyfile(root / name, project / name)
    build = dataclasses.replace(released, sources=dataclasses.replace(released.sources, project=project))
    again = build.release(tmp_path / "again")
    assert (again / manifest.NAME).read_bytes() == (released.folder / manifest.NAME).read_bytes()


def test_the_wheel_holds_the_runtime_and_nothing_else(released):
    wheel = released.folder / Bundle.load(released.folder).facts["runtime"]
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"embed_foundry"}
    assert "embed_foundry/bundle.py" in names
    assert [name for name in names if name.endswith((".pyc", "/")) or "__pycache__" in name] == []
    required = [line.split(": ")[1] for line in metadata.splitlines() if line.startswith("Requires-Dist")]
    bare = {line.split(">")[0] for line in required if "extra ==" not in line}
    assert bare == {"numpy", "onnxruntime", "safetensors", "tokenizers"}


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
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, folder / "it"], check=True)
    python = folder / "it" / "bin" / "python"
    wheel = released.folder / Bundle.load(released.folder).facts["runtime"]
    install = [*uv, "pip", "install", "--quiet", "--python", python, wheel]
    for attempt in ([*install, "--offline"], install):  # uv's cache first: no network needed where it is warm
        done = subprocess.run(attempt, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode == 0:
            return python
    pytest.skip(f"nothing can be installed here: {done.stderr.strip().splitlines()[-1]}")


def test_the_wheel_alone_encodes_every_shipped_variant(released, empty_python, probes, reference, tmp_path):
    (tmp_path / "texts").write_text("\0".join(probes), encoding="utf-8")
    program = [empty_python, "-c", ALONE, released.folder, tmp_path / "texts", tmp_path / "found.npz", *ORDER]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(program, cwd=tmp_path, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "found.npz")
    assert (found["onnx_fp32"] * reference).sum(axis=1).min() >= 0.9999
    for name in ORDER:
        here = open_bundle(released.folder, name, threads=2)
        expected = np.concatenate([here.encode([text]) for text in probes])
        assert (found[name] * expected).sum(axis=1).min() >= 0.999, name
    console = empty_python.with_name("embed-foundry")
    assert subprocess.run([console, "verify", released.folder], cwd=tmp_path, env=clean, check=False).returncode == 0
    told = subprocess.run([console, "--help"], env=clean, capture_output=True, text=True, check=True).stdout
    assert "verify" in told
    assert "compose" not in told, "a build's command where there is no clone"
