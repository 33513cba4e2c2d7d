"""CI: workflows that GitHub accepts and an auditor passes; every step also runs here."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from embed_foundry import manifest

from support.sigstore_server import IDENTITY

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
RELEASE, TARGET = (ROOT / ".github" / "workflows" / name for name in ("release.yml", "target.yml"))
ACTION = r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+"
BIN = Path(sys.executable).parent


def read_jobs(path: Path) -> dict[str, dict]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]


def test_github_accepts_the_workflows():
    assert [path.stem for path in WORKFLOWS] == ["check", "release", "rollback", "target"]
    command = [BIN / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_an_auditor_finds_nothing():
    command = [BIN / "zizmor", "--offline", "--persona", "pedantic", "--strict-collection", *WORKFLOWS]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_by_commit_with_their_tag(path):
    actions = re.findall(r"uses: (.*)", path.read_text(encoding="utf-8"))
    assert actions
    assert [action for action in actions if not re.fullmatch(ACTION, action)] == (
        ["$/.github/workflows/target.yml"] * (path == RELEASE)
    )


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_step_is_a_command_that_runs_here(path):
    for job in read_jobs(path).values():
        for command in (step["run"] for step in job.get("steps", []) if "run" in step):
            assert "\n" not in command, command
            program = command.split()[0]
            runs_here = os.access(ROOT / program, os.X_OK) or program.startswith(".venv/bin/")
            assert runs_here or program in {"make", "test"}, command


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_secrets_reach_single_steps_of_approved_jobs_only(path):
    for name, job in read_jobs(path).items():
        outside = {key: value for key, value in job.items() if key != "steps"}
        if path == RELEASE:
            secrets = outside.pop("secrets")
            assert secrets == {secret: f"${{{{ secrets.{secret} }}}}" for secret in read_workflow_call()["secrets"]}
        assert "secrets." not in str(outside)
        signs = (path, name) in {(RELEASE, "target"), (TARGET, "canary")}
        assert job["permissions"] == {"contents": "read"} | ({"id-token": "write"} if signs else {})
        holders = [step for step in job.get("steps", []) if "secrets." in str(step)]
        assert len(holders) <= 1
        assert not holders or job["environment"] in {"canary", "stable"}


def read_workflow_call() -> dict[str, dict]:
    """Return what target.yml takes; YAML 1.1 reads the key `on` as true."""
    return yaml.safe_load(TARGET.read_text(encoding="utf-8"))[True]["workflow_call"]


def test_every_target_has_a_chain_of_its_own():
    (caller,) = read_jobs(RELEASE).values()
    assert caller["strategy"].pop("fail-fast") is False, "one target's gate must not end another's chain"
    assert caller["with"] == {"target": "${{ matrix.target }}"}
    for target in caller["strategy"]["matrix"]["target"]:
        assert (ROOT / "conf" / "target" / f"{target}.yaml").is_file()
    chain = read_jobs(TARGET)
    assert {name: job.get("needs") for name, job in chain.items()} == {
        "build": None,
        "canary": "build",
        "stable": "canary",
    }
    assert not any("strategy" in job for job in chain.values()), "what is built is published, of one target"


def test_a_foreign_caller_is_refused_before_anything_of_its_own_runs():
    first = read_jobs(TARGET)["canary"]["steps"][0]
    assert first["run"] == 'test "$CALLER" = "$CALLED"'
    contexts = {name: re.findall(r"{{ (.*?) }}", value) for name, value in first["env"].items()}
    assert contexts == {
        "CALLER": ["github.repository", "github.workflow_sha"],
        "CALLED": ["job.workflow_repository", "job.workflow_sha"],
    }


def run_script(
    script: str, *args: str | Path, store: Path | None, root: Path = ROOT, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a script of .ci/ as a runner does."""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "EMBED_", "GITHUB_", "ACTIONS_"))
    }
    environment |= env | ({"EMBED_FOUNDRY_STORE": f"file://{store}"} if store else {})
    return subprocess.run(
        [root / ".ci" / script, *args], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_from_a_build_to_a_promoted_channel_and_back(make_release, tmp_path):
    first, second = make_release(1, "static"), make_release(2, "static")
    a, b = (manifest.read(release).digest for release in (first, second))
    store = tmp_path / "store"
    for release in (first, second):
        for script in ("publish", "promote"):
            result = run_script(script, "local_cpu", release.parent, store=store, REASON="v1, run 7")
            assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-2].split()[1:2] == ["2"]
    assert f"promote   {b}  v1, run 7" in result.stdout
    result = run_script("rollback", "local_cpu-stable", "", store=store, REASON="slow")
    assert result.returncode == 0, result.stderr
    assert f"local_cpu-stable: moved from {b} to {a}" in result.stdout
    result = run_script("rollback", "local_cpu-canary", a, store=store)
    assert f"local_cpu-canary: moved from {b} to {a}" in result.stdout
    result = run_script("promote", "local_cpu", second.parent, store=store)
    assert (result.returncode, f"local_cpu-canary is at {a}" in result.stderr) == (75, True), "canary was rolled back"


def test_a_broken_release_is_not_published(make_release, tmp_path):
    shutil.copytree(make_release(1, "static").parent, tmp_path / "build")
    (tmp_path / "build" / "release" / "NOTICE").write_text("changed")
    result = run_script("publish", "local_cpu", tmp_path / "build", store=tmp_path / "store")
    assert (result.returncode, "NOTICE: has" in result.stderr) == (3, True)
    assert not (tmp_path / "store").exists()


def test_a_job_without_a_key_signs_as_its_workflow(
    make_release, checkout, sigstore, run_command, tmp_path, monkeypatch
):
    build, store = shutil.copytree(make_release(1, "static").parent, tmp_path / "build"), tmp_path / "store"
    token = sigstore.environment | {"SIGSTORE_TRUST": str(sigstore.trust)}
    result = run_script("publish", "local_cpu", build, store=store, root=checkout, **token)
    assert result.returncode == 0, result.stderr
    assert f"signed {build / 'release'} as {IDENTITY} ({sigstore.url})" in result.stdout
    monkeypatch.setenv("EMBED_FOUNDRY_STORE", f"file://{store}")
    signer = ["--issuer", sigstore.url, "--trust", sigstore.trust]
    fetch = ["fetch", "local_cpu-canary", tmp_path / "fetched", *signer]
    assert run_command(*fetch, "--identity", f"{IDENTITY}-other")[0] == 3
    assert run_command(*fetch, "--identity", IDENTITY)[0] == 0
    assert manifest.verify(tmp_path / "fetched").digest == manifest.read(build / "release").digest


@pytest.mark.parametrize("script", ["publish", "promote", "rollback"])
def test_without_a_store_nothing_is_guessed(script):
    result = run_script(script, "local_cpu", store=None)
    assert result.returncode != 0
    assert "EMBED_FOUNDRY_STORE: expected s3://BUCKET" in result.stderr


def test_the_summary_is_markdown_of_verdict_and_metrics(tmp_path):
    result = run_script("summary", "HEAD", "local_cpu", store=None, GITHUB_STEP_SUMMARY=str(tmp_path / "summary.md"))
    assert result.returncode == 0, result.stderr
    text = (tmp_path / "summary.md").read_text()
    assert text.startswith("## local_cpu\n\n```\n")
    assert "```\n\n### Metrics against HEAD\n\n" in text
    assert "No metric changed." in text or "| Path" in text
