"""build: one at a time, with this environment's Python; tests/faults has two at once, killed ones and odd places."""

import subprocess
import sys
from pathlib import Path

import pytest

from stages.common.records.machine import Machine

WRITER = Path(__file__).parent / "faults" / "writer.py"


@pytest.fixture
def clone(tmp_path) -> Path:
    """Return a DVC repository whose stages are named like those that matter here."""
    stages = "".join(
        f"  {name}:\n    cmd: python {WRITER} {name} 10\n    outs: [{name}]\n" for name in ("data", "release")
    )
    (tmp_path / "dvc.yaml").write_text(f"stages:\n{stages}")
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"], cwd=tmp_path, check=True)
    return tmp_path


def test_a_build_runs_the_stages_and_knows_this_machine(clone, console):
    result = console("build", "--", "--quiet", cwd=clone)
    assert (result.returncode, result.stderr) == (0, "")
    assert (clone / "release" / "data").is_file()
    Machine.load(clone / Machine.FILE)


def test_some_stages_only(clone, console):
    assert console("build", "data", cwd=clone).returncode == 0
    assert not (clone / "release").exists()


def test_a_release_holds_files_even_where_dvc_links_outputs(clone, console):
    subprocess.run([sys.executable, "-m", "dvc", "config", "cache.type", "symlink"], cwd=clone, check=True)
    result = console("build", cwd=clone)
    assert result.returncode == 0, result.stderr
    assert (clone / "data" / "data").is_symlink()
    assert not any(path.is_symlink() for path in (clone / "release").iterdir())
    assert "up to date" in console("build", cwd=clone).stdout


def test_a_stage_that_fails_ends_the_build_as_dvc_does(clone, console):
    (clone / "dvc.yaml").write_text("stages:\n  data:\n    cmd: exit 4\n    outs: [data]\n")
    result = console("build", cwd=clone)
    assert result.returncode == 255
    assert "exited with 4" in result.stderr


def test_outside_a_repository_it_is_refused(console, tmp_path):
    result = console("build", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
