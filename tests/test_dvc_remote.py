"""DVC's remote in the same kind of store: a clone pulls the run cache and builds nothing; wrong bytes are refused."""

import subprocess
import sys
from pathlib import Path

import pytest

from support.seaweedfs import BUCKET, PUBLISHER, secret_key
from support.small_release import git

PIPELINE = """
stages:
  make:
    cmd: python -c "open('out', 'w').write(open('in').read() * 1000)"
    deps: [in]
    outs: [out]
"""


def run_dvc(folder: Path, *args: str) -> tuple[int, str]:
    """Run DVC and return its exit code and output; in this process its log would go to an earlier test's output."""
    command = [Path(sys.executable).with_name("dvc"), *args]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    return result.returncode, result.stdout + result.stderr


@pytest.fixture
def pushed_repository(s3_server, bucket_prefix, tmp_path, monkeypatch) -> Path:
    """Return a repository whose pipeline ran and was pushed, set up as docs/releases.md says."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", PUBLISHER)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret_key(PUBLISHER))
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    folder = tmp_path / "first"
    folder.mkdir()
    git(folder, "init", "-q")
    for command in (
        ("init", "-q"),
        ("config", "core.analytics", "false"),
        ("remote", "add", "--default", "store", f"s3://{BUCKET}/{bucket_prefix}/dvc"),
        ("remote", "modify", "store", "verify", "true"),
    ):
        assert run_dvc(folder, *command)[0] == 0
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "in").write_text("some text\n")
    code, message = run_dvc(folder, "repro", "-q")
    assert code == 0, message
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "built")
    code, message = run_dvc(folder, "push", "--run-cache")
    assert code == 0, message
    return folder


def test_a_clone_is_up_to_date_after_a_pull_and_refuses_wrong_bytes(
    pushed_repository, s3_server, bucket_prefix, tmp_path
):
    git(tmp_path, "clone", "-q", str(pushed_repository), "second")
    second = tmp_path / "second"
    code, message = run_dvc(second, "pull", "--run-cache")
    assert code == 0, message
    assert (second / "out").read_text() == "some text\n" * 1000
    code, message = run_dvc(second, "repro")
    assert (code, "up to date" in message) == (0, True), message
    assert any((second / ".dvc" / "cache" / "runs").rglob("*"))

    client = s3_server.client()
    objects = client.list_objects_v2(Bucket=BUCKET, Prefix=f"{bucket_prefix}/dvc/files/")["Contents"]
    largest = max(objects, key=lambda item: item["Size"])
    client.put_object(Bucket=BUCKET, Key=largest["Key"], Body=b"x" * largest["Size"])
    git(tmp_path, "clone", "-q", str(pushed_repository), "third")
    code, message = run_dvc(tmp_path / "third", "pull")
    assert code != 0, message
    assert not (tmp_path / "third" / "out").exists()
