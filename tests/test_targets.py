"""Targets are hosts: what computes there, and what a release says when it was measured on another kind of host."""

import json

import numpy as np
import pytest
import yaml
from embed_foundry import InputError, open_variant
from embed_foundry.contract import Contract
from embed_foundry.encoders.providers import list_installed

from stages.commands import compose
from stages.common import config
from stages.common.config import Host
from stages.common.records.latency import LatencyReport
from stages.gate.elsewhere import find_differences
from support import small_release
from support.gate_facts import latency_report


@pytest.mark.parametrize(
    ("host", "differences"),
    [
        (Host(), []),
        (Host(arch="x86_64", system="Linux"), []),
        (Host(arch="aarch64"), ["the target is aarch64, measured was x86_64"]),
        (Host(system="Darwin"), ["the target is Darwin, measured was Linux"]),
        (Host(providers=["cuda", "cpu"]), ["the target computes on cuda, measured was cpu"]),
    ],
)
def test_what_was_measured_elsewhere_is_named(host, differences):
    assert list(find_differences(host, LatencyReport.model_validate(latency_report({})))) == differences


@pytest.mark.parametrize(
    ("providers", "message"),
    [
        (["vulkan", "cpu"], "unknown execution providers"),
        (["cpu", "cuda"], "last must be cpu"),
        ([], "must be cpu"),
    ],
)
def test_providers_that_do_not_exist_or_do_not_end_with_the_cpu_are_refused(root, providers, message):
    raw = yaml.safe_load(compose.compose([], root / "conf"))
    raw["target"]["host"]["providers"] = providers
    with pytest.raises(InputError, match=message):
        config.parse(raw, "params.yaml")


def test_providers_that_are_not_installed_are_left_out_and_the_cpu_computes(converted):
    assert list_installed(["cuda", "coreml", "cpu"], ["CoreMLExecutionProvider", "CPUExecutionProvider"]) == [
        "coreml",
        "cpu",
    ]
    assert list_installed(["a later one", "cpu"], ["CPUExecutionProvider"]) == ["cpu"]
    encoder = open_variant(converted("onnx_int8"), providers=["cuda", "coreml", "cpu"])
    assert encoder.providers == ("cpu",)
    expected = open_variant(converted("onnx_int8")).encode(["hello"])
    assert np.array_equal(encoder.encode(["hello"]), expected)


def test_a_release_for_another_host_says_that_it_is_not_certified_there(released, tmp_path):
    target = released.target.model_copy(update={"host": Host(arch="aarch64", system="Darwin"), "name": "apple"})
    build = small_release.copy(released, tmp_path, target)
    build.judge()
    folder = build.release()
    differences = ("the target is aarch64, measured was x86_64", "the target is Darwin, measured was Linux")
    contract = Contract.load(folder)
    assert contract.uncertified == differences
    host = json.loads((folder / "bundle.json").read_bytes())["target"]["host"]
    assert (host, contract.providers) == ({"arch": "aarch64", "system": "Darwin", "providers": ["cpu"]}, ("cpu",))
    assert f"not certified for this target**: {'; '.join(differences)}" in (folder / "README.md").read_text()
    assert Contract.load(released.folder).uncertified == ()
