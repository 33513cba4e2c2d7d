"""A host with nothing but the wheel and its extra `serve`."""

import os
import subprocess
import sys

import httpx2
import pytest
from embed_foundry import Bundle

from support.served_releases import wait_for


@pytest.fixture(scope="module")
def bare_console(released, tmp_path_factory):
    """Return the console script of a new environment that holds the bundle's wheel with [serve], no more."""
    folder = tmp_path_factory.mktemp("venv")
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, folder / "venv"], check=True)
    wheel = released.folder / Bundle.load(released.folder).raw["runtime"]
    install = [*uv, "pip", "install", "--quiet", "--python", folder / "venv" / "bin" / "python", f"{wheel}[serve]"]
    for attempt in ([*install, "--offline"], install):  # uv's cache first: no network needed where it is warm
        done = subprocess.run(attempt, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode == 0:
            return folder / "venv" / "bin" / "embed-foundry"
    pytest.skip(f"nothing can be installed here: {done.stderr.strip().splitlines()[-1]}")


def test_the_wheel_alone_fetches_verifies_and_encodes(released, bare_console, run_command, tmp_path):
    store = ("--store", f"file://{tmp_path / 'store'}")
    digest = Bundle.load(released.folder).digest
    assert run_command("publish", released.folder, *store)[0] == 0

    def run(*arguments, stdin=""):
        clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        command = [bare_console, *map(str, arguments)]
        return subprocess.run(
            command, cwd=tmp_path, env=clean, input=stdin, capture_output=True, text=True, check=False
        )

    for command in (("promote", "canary", digest), ("promote", "stable", "canary"), ("history",)):
        assert run(*command, *store).returncode == 0
    assert digest in run("history", "stable", *store).stdout
    fetched = run("fetch", "stable", tmp_path / "fetched", *store)
    assert (fetched.returncode, digest in fetched.stdout) == (0, True), fetched.stderr
    assert digest in run("verify", tmp_path / "fetched").stdout
    certified = run("certify", tmp_path / "fetched", "--seconds", "1", *store)
    assert (certified.returncode, "1 new certificate" in certified.stderr) == (0, True), certified.stderr
    explained = run("explain", tmp_path / "fetched").stdout
    assert "onnx_int8" in explained
    assert "Certified on this kind of host" in explained
    assert len(run("encode", tmp_path / "fetched", stdin="a text\n").stdout.split(",")) == 384
    lacking = run("history", "--store", "s3://bucket")
    assert (lacking.returncode, "embed-foundry[s3]" in lacking.stderr) == (2, True), lacking.stderr
    assert run("publish", tmp_path / "fetched", *store).returncode == 2, "the build's"


@pytest.mark.parametrize("processes", ["1", "2"])
def test_the_wheel_alone_serves(released, bare_console, tmp_path, processes):
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    command = [bare_console, "serve", released.folder, "--port", "0", "--processes", processes]
    with subprocess.Popen(command, cwd=tmp_path, env=clean, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().split()[-1]
        try:
            wait_for(lambda: httpx2.get(f"{url}/readyz").status_code == 200)
            answer = httpx2.post(f"{url}/api/embed", json={"model": "auto", "input": ["a"]}, timeout=60)
            assert answer.headers["X-Variant"] == "onnx_int8"
            assert len(answer.json()["embeddings"][0]) == 384
        finally:
            process.terminate()
    assert process.returncode == 0
