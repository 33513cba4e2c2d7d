"""The examples in docs/deploy name options, variables, paths and metrics that the service has."""

import re

import pytest
import yaml
from embed_foundry.serve.options import OPTIONS, PREFIX

from support.served_releases import read_readiness, wait_for

NAMES = ("Dockerfile", "railway.toml", "kubernetes.yaml", "embed-foundry.service")


@pytest.fixture(params=NAMES)
def example(request, root) -> str:
    return (root / "docs" / "deploy" / request.param).read_text()


def test_options_and_variables_exist(example):
    known = {option.variable for option in OPTIONS} | {f"{PREFIX}KEYS"}
    assert set(re.findall(rf"{PREFIX}[A-Z_]+", example)) <= known
    commands = [line for line in example.splitlines() if re.search(r"serve /|args:", line) and "docker" not in line]
    options = {f"--{option.name}" for option in OPTIONS}
    assert set(re.findall(r"--[a-z][a-z-]+", " ".join(commands))) <= options


def test_every_example_is_listed(root):
    assert {file.name for file in (root / "docs" / "deploy").iterdir()} == set(NAMES)


def test_probes_ask_what_is_answered(root, service):
    import httpx2

    documents = list(yaml.safe_load_all((root / "docs" / "deploy" / "kubernetes.yaml").read_text()))
    container = documents[0]["spec"]["template"]["spec"]["containers"][0]
    wait_for(lambda: read_readiness(service.url)[0] == 200)
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert httpx2.get(service.url + container[probe]["httpGet"]["path"]).status_code == 200
    scaled = documents[2]["spec"]["metrics"][0]["pods"]["metric"]["name"]
    assert f"{scaled} " in httpx2.get(f"{service.url}/metrics").text


def test_the_image_listens_beyond_itself_only_with_keys(root):
    dockerfile = (root / "docs" / "deploy" / "Dockerfile").read_text()
    assert f"{PREFIX}HOST=0.0.0.0" in dockerfile
    assert "NO_KEYS" not in dockerfile
    assert "USER 65532" in dockerfile
