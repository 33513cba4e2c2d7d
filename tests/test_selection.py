"""The choice of a variant: a pure function of a bundle's contract and the environment; how it is explained."""

import dataclasses
import importlib
import importlib.util
import json
import os
import subprocess
import tomllib
from pathlib import Path

import pytest
from conftest import CONSOLE
from embed_foundry import Bundle, Environment, contract, environment
from embed_foundry.contract import Contract, ShippedVariant
from embed_foundry.encoders import encoder
from embed_foundry.encoders.kinds import KINDS
from embed_foundry.explain import explain_choice
from embed_foundry.selection import decide

VNNI = frozenset({"avx2", "avx512_vnni"})
SERVER = Environment("x86_64", VNNI, 32_000, frozenset({"onnx", "openvino", "static"}))


def shipped(kind: str, bits: int, peak: float | None = 100.0, **changes: object) -> ShippedVariant:
    """Return a variant as a bundle might ship it."""
    entry = {
        "kind": kind,
        "digest": "0" * 64,
        "bits": bits,
        "space_id": "shared",
        "device": "cpu",
        "cpu_any": {},
        "size_mb": 10.0,
        "measured": {"peak_rss_mb": peak, "speedup": {"32": 2.0}, "quality": {}},
        "checks": [],
    }
    return ShippedVariant.parse(entry | changes)


SATURATES = {"cpu_any": {"x86_64": ["avx512_vnni", "avx_vnni"]}}
VARIANTS = {
    "openvino_int8": shipped("openvino", 8, 300.0),
    "onnx_int8": shipped("onnx", 8, 200.0, **SATURATES),
    "onnx_fp32": shipped("onnx", 32, 600.0),
    "onnx_q4": shipped("onnx", 4, 150.0),
    "static": shipped("static", 8, 50.0, space_id="other"),
}


def contract_of(**variants: ShippedVariant) -> Contract:
    """Return a contract whose order is the arguments'; none means VARIANTS."""
    shipped = variants or VARIANTS
    return Contract("model", "target", content="", order=tuple(shipped), variants=shipped)


def order(environment: Environment, **variants: ShippedVariant) -> list[str]:
    return decide(contract_of(**variants), environment).order


INT8, ALL = ["openvino_int8", "onnx_int8"], ["openvino_int8", "onnx_int8", "onnx_fp32", "onnx_q4"]
HOSTS = {
    "a server": (SERVER, ALL),
    "8 GB": (dataclasses.replace(SERVER, memory_mb=8192), [*INT8, "onnx_q4", "onnx_fp32"]),
    "2 GB": (dataclasses.replace(SERVER, memory_mb=2048), ["onnx_q4", *INT8, "onnx_fp32"]),
    "Railway, 1 GB": (
        dataclasses.replace(SERVER, memory_mb=1024, railway="production"),
        [*INT8, "onnx_q4", "onnx_fp32"],
    ),
    "Railway, much": (dataclasses.replace(SERVER, railway="production"), [*INT8, "onnx_q4", "onnx_fp32"]),
    "memory unknown": (dataclasses.replace(SERVER, memory_mb=None), ALL),
    "no openvino": (dataclasses.replace(SERVER, libraries=frozenset({"onnx", "static"})), ALL[1:]),
    "AVX2 alone": (dataclasses.replace(SERVER, flags=frozenset({"avx2"})), ["openvino_int8", "onnx_fp32", "onnx_q4"]),
    "ARM": (dataclasses.replace(SERVER, arch="aarch64", flags=frozenset({"asimd"})), ALL),
    "flags unknown": (dataclasses.replace(SERVER, flags=None), ALL),
    "230 MB": (dataclasses.replace(SERVER, memory_mb=230), ["onnx_q4", "onnx_int8"]),
    "60 MB": (dataclasses.replace(SERVER, memory_mb=60), []),
}


@pytest.mark.parametrize("host", HOSTS)
def test_the_order_on(host):
    environment, expected = HOSTS[host]
    assert order(environment) == expected


def test_only_what_comes_before_is_skipped():
    decision = decide(contract_of(), HOSTS["230 MB"][0])
    assert [text.split(":")[0] for text in decision.list_skipped()] == ["openvino_int8", "onnx_fp32"]
    assert [text.split(":")[0] for text in decision.list_skipped("onnx_int8")] == ["openvino_int8"]
    assert decision.list_skipped("onnx_q4") == []


def test_everything_else_equal_the_targets_order_decides():
    turned = dict(reversed(list(VARIANTS.items())))
    turned["static"] = shipped("static", 8)
    assert order(SERVER, **turned) == ["static", "onnx_q4", "onnx_fp32", "onnx_int8", "openvino_int8"]


def test_another_space_is_never_in_the_order_even_where_nothing_else_runs():
    decision = decide(contract_of(), dataclasses.replace(SERVER, memory_mb=60))
    assert decision.order == []
    assert {choice.name: choice.same_space for choice in decision.choices}["static"] is False
    assert {choice.name: choice.obstacles for choice in decision.choices}["static"] == ()


def test_what_needs_cuda_goes_first_with_it_and_is_out_without():
    variants = {"onnx_int8": shipped("onnx", 8), "gpu_fp32": shipped("onnx", 32, device="cuda")}
    assert order(dataclasses.replace(SERVER, cuda=True), **variants) == ["gpu_fp32", "onnx_int8"]
    assert order(SERVER, **variants) == ["onnx_int8"]


def test_a_tier_without_variants_takes_the_nearest():
    variants = {"onnx_fp32": VARIANTS["onnx_fp32"], "onnx_int8": VARIANTS["onnx_int8"]}
    assert order(dataclasses.replace(SERVER, memory_mb=1024), **variants) == ["onnx_int8", "onnx_fp32"]


def test_memory_that_was_not_measured_excludes_nothing():
    assert order(dataclasses.replace(SERVER, memory_mb=60), onnx_int8=shipped("onnx", 8, None)) == ["onnx_int8"]


def test_every_obstacle_is_named_with_its_next_step():
    bare = Environment("x86_64", frozenset(), 60, frozenset())
    choices = {choice.name: choice.obstacles for choice in decide(contract_of(), bare).choices}
    obstacles = "\n".join(choices["onnx_int8"])
    assert "onnxruntime is not installed; pip install onnxruntime" in obstacles
    assert "this CPU has none of avx512_vnni avx_vnni" in obstacles
    assert "its peak memory of 200 MB is over 90% of 60 MB" in obstacles
    assert (
        decide(contract_of(new=shipped("coreml", 8)), SERVER)
        .choices[0]
        .obstacles[0]
        .startswith("kind coreml is unknown")
    )


def test_it_is_pure(monkeypatch):
    """The same contract and environment give the same answer, whatever this host is."""
    before = decide(contract_of(), SERVER)
    monkeypatch.setenv("RAILWAY_ENVIRONMENT", "production")
    monkeypatch.setattr(environment, "read_memory_limit_mb", lambda groups: 1)
    assert decide(contract_of(), SERVER) == before


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_a_kind_names_a_real_encoder_and_the_extra_that_brings_its_packages(kind, root):
    module, _, name = kind.encoder.partition(":")
    assert issubclass(getattr(importlib.import_module(module), name), encoder.Encoder)
    assert importlib.util.find_spec(kind.module)
    extras = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    if kind.extra:
        assert set(extras[kind.extra]) == set(kind.packages)


def test_this_host_is_detected(monkeypatch):
    monkeypatch.setenv("RAILWAY_ENVIRONMENT", "staging")
    host = Environment.detect()
    assert {"onnx", "openvino", "static"} <= host.libraries
    assert host.railway == "staging"
    assert host.memory_mb > 100
    assert host.flags is None or {"avx2", "asimd"} & host.flags
    assert "Railway staging" in host.describe()


def test_memory_limits_of_both_versions_of_cgroups(tmp_path):
    contents = {
        "free2": ("memory.max", "max"),
        "tight2": ("memory.max", str(512 << 20)),
        "free1": ("memory.limit_in_bytes", "9223372036854771712"),
        "tight1": ("memory.limit_in_bytes", str(1 << 30)),
        "none": ("cpu.max", "max 100000"),
    }
    for folder, (name, content) in contents.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(content + "\n")
    limit = lambda *names: environment.read_memory_limit_mb([tmp_path / name for name in names])  # noqa: E731
    assert limit() is limit("free2", "none") is limit("free1") is None
    assert limit("free2", "tight2", "none") == 512
    assert limit("tight1", "free1") == 1024
    assert limit("tight1", "tight2") == 512


def test_cuda_is_a_driver_that_is_not_hidden(monkeypatch, tmp_path):
    monkeypatch.setattr(environment, "NVIDIA_DRIVER", tmp_path / "version")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert not Environment.detect().cuda
    (tmp_path / "version").write_text("NVRM version")
    assert Environment.detect().cuda
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert not Environment.detect().cuda


def test_explain_says_what_is_opened_what_is_next_and_what_is_not(released):
    bundle = Bundle.load(released.folder)

    def explanation(**changes: object) -> str:
        return "\n".join(explain_choice(bundle, dataclasses.replace(SERVER, **changes)))

    text = explanation(memory_mb=1024, railway="production")
    assert "weights of at most 8 bits first (Railway shares its CPUs)" in text
    assert "1. onnx_int8              opened first" in text
    assert "2. onnx_fp32              opened if onnx_int8 fails its self-test" in text
    assert "-  static                 opened only by name: it cannot search an index of onnx_int8" in text
    assert "peak memory 100 of 1024 MB; speed-up 50.00x at 32, 50.00x at 128 tokens; at least 100.0 %" in text
    assert "Another space is only opened by name." in text
    assert "CUDA: all run on the CPU" not in text
    assert "CUDA: all run on the CPU" in explanation(cuda=True)
    assert "No variant of this space can run here: opening ends with exit 2." in explanation(memory_mb=64)


def test_explain_for_another_host(released, console):
    done = console("explain", released.folder, "--memory-mb", "700", "--flags", "avx2", "--libraries", "onnx")
    assert (done.returncode, done.stderr) == (0, "")
    assert "700 MB" in done.stdout
    assert "1. onnx_fp32              opened first" in done.stdout
    assert "onnx_int8              cannot run here: this CPU has none of" in done.stdout
    assert "safetensors is not installed" in done.stdout
    assert "has instructions that this CPU lacks" not in done.stdout


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_explain_to_a_reader_that_leaves_early_ends_quietly(released, unbuffered):
    reader, writer = os.pipe()
    os.close(reader)
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    command = [CONSOLE, "explain", released.folder]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=environment, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_opening_follows_what_explain_says(released):
    bundle = Bundle.load(released.folder)
    plain = dataclasses.replace(Environment.detect(), flags=frozenset({"avx2"}), arch="x86_64")
    with pytest.warns(match="using onnx_fp32; onnx_int8: this CPU has none of"):
        assert bundle.open(environment=plain).variant.name == decide(bundle.contract, plain).order[0] == "onnx_fp32"
    tight = dataclasses.replace(plain, memory_mb=64)
    with pytest.raises(Exception, match=r"no variant of space .* can run here.*explain") as caught:
        bundle.open(environment=tight)
    assert caught.value.code == 2
    assert bundle.open("static", environment=tight).variant.name == "static"


def test_nothing_is_chosen_by_a_file_or_variant_name(released, tmp_path):
    """The same variants under other names give the same choice."""
    raw = json.loads((released.folder / contract.NAME).read_text())
    renamed = {"zz": raw["variants"]["onnx_int8"], "aa": raw["variants"]["onnx_fp32"]}
    path = Path(tmp_path) / contract.NAME
    path.write_text(json.dumps(raw | {"variants": renamed, "selection": {"order": ["zz", "aa"]}}))
    assert decide(Contract.load(tmp_path), SERVER).order == ["zz", "aa"]
