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
