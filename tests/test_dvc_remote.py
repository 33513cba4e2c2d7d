"""DVC's remote in the same kind of store: a clone pulls the run cache and builds nothing; wrong bytes are refused."""

import subprocess
import sys
from pathlib import Path

import pytest

from support.seaweedfs import BUCKET, PUBLISHER, secret
from support.small_release import git

PIPELINE = """
stages:
  make:
    cmd: python -c "open('out', 'w').write(open('in').read() * 1000)"
    deps: [in]
    outs: [out]
"""


def dvc(folder: Path, *args: str) -> tuple[int, str]:
    """Run DVC and return its exit code and output; in this process its log would go to an earlier test's output."""
    command = [Path(sys.executable).with_name("dvc"), *args]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def first(weed, prefix, tmp_path, monkeypatch) -> Path:
    """Return a repository whose pipeline ran and was pushed, set up as docs/releases.md says."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", PUBLISHER)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret(PUBLISHER))
    monkeypatch.setenv("AWS_ENDPOINT_URL", weed.endpoint)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    folder = tmp_path / "first"
    folder.mkdir()
    git(folder, "init", "-q")
    for command in (
        ("init", "-q"),
        ("config", "core.analytics", "false"),
        ("remote", "add", "--default", "store", f"s3://{BUCKET}/{prefix}/dvc"),
        ("remote", "modify", "store", "verify", "true"),
    ):
        assert dvc(folder, *command)[0] == 0
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "in").write_text("some text\n")
    code, said = dvc(folder, "repro", "-q")
    assert code == 0, said
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "built")
    code, said = dvc(folder, "push", "--run-cache")
    assert code == 0, said
    return folder


def test_a_clone_pulls_and_is_up_to_date_but_takes_no_wrong_bytes(first, weed, prefix, tmp_path):
    git(tmp_path, "clone", "-q", str(first), "second")
    second = tmp_path / "second"
    code, said = dvc(second, "pull", "--run-cache")
    assert code == 0, said
    assert (second / "out").read_text() == "some text\n" * 1000
    code, said = dvc(second, "repro")
    assert (code, "up to date" in said) == (0, True), said
    assert any((second / ".dvc" / "cache" / "runs").rglob("*"))

    client = weed.client()
    objects = client.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}/dvc/files/")["Contents"]
    big = max(objects, key=lambda item: item["Size"])
    client.put_object(Bucket=BUCKET, Key=big["Key"], Body=b"x" * big["Size"])
    git(tmp_path, "clone", "-q", str(first), "third")
    code, said = dvc(tmp_path / "third", "pull")
    assert code != 0, said
    assert not (tmp_path / "third" / "out").exists()
