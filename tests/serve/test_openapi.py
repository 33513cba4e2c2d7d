"""/openapi.json says what the doors do: schemathesis sends what it allows, and what it does not, and judges answers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
# 413 is how a dialect refuses what is longer than its schema allows.
CONFIG = """
[checks]
negative_data_rejection.expected-statuses = ["400", "401", "404", "405", "406", "413", "415", "422"]
positive_data_acceptance.expected-statuses = ["2xx", "404", "409"]
"""


def fuzz(service, folder, phases, examples):
    (folder / "schemathesis.toml").write_text(CONFIG)
    hooks = Path(__file__).resolve().parent.parent / "support"
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "openapi_hooks", "PYTHONPATH": str(hooks)}
    command = [SCHEMATHESIS, "--config-file", folder / "schemathesis.toml", "run", f"{service.url}/openapi.json"]
    command += [
        "--phases",
        phases,
        "--max-examples",
        str(examples),
        "--seed",
        "1",
        "--generation-database",
        "none",
        "--no-color",
    ]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
    assert service.client.get("/v1/models").status_code == 200


def test_schemathesis_finds_nothing(service, tmp_path):
    fuzz(service, tmp_path, "coverage", examples=1)


@pytest.mark.slow
def test_schemathesis_finds_nothing_in_many_requests(service, tmp_path):
    fuzz(service, tmp_path, "examples,coverage,fuzzing,stateful", examples=300)


def test_every_operation_is_documented(service):
    document = service.client.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            where = f"{method} {path}"
            if {"health", "operations"} & set(operation.get("tags", ())):
                continue  # they speak no dialect
            assert operation["summary"], where
            for status, answer in operation["responses"].items():
                assert answer["description"], (where, status)
                empty = path == "/health" and status == "200"
                assert empty or answer["content"]["application/json"]["schema"], (where, status)
            if method == "post":
                fields = operation["requestBody"]["content"]["application/json"]["schema"]
                assert fields["additionalProperties"] is False, where
                assert {"200", "400", "404", "413", "415"} <= operation["responses"].keys() | {"400"}, where
