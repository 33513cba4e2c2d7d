"""`python -m stages.download`, as DVC runs it, against a local hub: environment, exit codes, one-line errors."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from embed_foundry import manifest

from stages import download
from support import tiny_model
from support.hub_server import Fault

TOKEN = "hf_aVerySecretToken"


@pytest.fixture
def command(hub, tmp_path):
    """Return a function that runs `python -m stages.download` as DVC does, with the hub in the environment."""
    repository = Path(download.__file__).parent.parent
    params = yaml.safe_load((repository / "params.yaml").read_text())
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params | {"model": tiny_model.config().model_dump()}))
    settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0"}

    def run(**environment: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "stages.download"],
            cwd=tmp_path,
            env=os.environ | settings | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    return run


def test_the_command_reads_the_environment_and_works_offline_afterwards(hub, command, tmp_path):
    code, output = command()
    assert (code, TOKEN in output) == (0, False), output
    assert "hub: model.safetensors" in output
    said = output[output.index("download: ") :].splitlines()
    assert said[0] == "download: someone/tiny, as sentence-transformers loads it:"
    assert [line for line in said[1:] if not line.startswith("  ")] == [], "and nothing of the libraries beside it"
    assert sorted(manifest.verify(tmp_path / "models" / "base").files) == sorted(tiny_model.files())
    hub.hits.clear()
    assert command(HF_HUB_OFFLINE="1")[0] == 0
    assert hub.hits == []


EXITS = {
    "wrong bytes": (Fault("file", corrupt=True), 3),
    "gated": (Fault("head", status=403, headers={"X-Error-Code": "GatedRepo"}), 5),
    "no commit": (Fault("api", status=404, headers={"X-Error-Code": "RevisionNotFound"}), 5),
    "busy": (Fault("api", status=503, headers={"Retry-After": "3600"}), 75),
}


@pytest.mark.parametrize("case", EXITS)
def test_the_command_ends_with_the_documented_code_and_one_line(hub, command, tmp_path, case):
    fault, expected = EXITS[case]
    hub.faults = [fault]
    code, output = command()
    assert code == expected, output
    assert output.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in output
    assert TOKEN not in output
    assert not (tmp_path / "models" / "base").exists()
