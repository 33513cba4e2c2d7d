"""Where people put a clone, and what their shell lacks: it composes and builds there."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from embed_foundry import manifest

from support.small_release import git

CONSOLE = Path(sys.executable).with_name("embed-foundry")
DVC = Path(sys.executable).with_name("dvc")
WRITER = Path(__file__).with_name("writer.py")
# An environment in which nothing answers: no home, no folder for temporary files, a proxy that is gone.
BARE = {
    "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
    "TMPDIR": "/missing",
    **{
        name: "http://127.0.0.1:9"
        for scheme in ("http", "https", "all")
        for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper())
    },
}


@pytest.fixture(scope="module")
def repository(root, tmp_path_factory) -> Path:
    """Return a git and DVC repository with this one's configuration, and one stage."""
    folder = tmp_path_factory.mktemp("origin") / "repository"
    shutil.copytree(root / "conf", folder / "conf")
    (folder / ".dvc").mkdir()
    for name in (".dvc/config", ".dvc/.gitignore", ".gitignore", "params.yaml"):
        shutil.copy(root / name, folder / name)
    stage = {"cmd": f"{sys.executable} {WRITER} data ${{latency.rounds}}", "outs": ["data"]}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"writer": stage}}))
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "all")
    return folder


def clone_subfolder(repository: Path, folder: Path) -> Path:
    shutil.copytree(repository, folder / "outer" / "sub", ignore=shutil.ignore_patterns(".git"))
    git(folder / "outer", "init", "--quiet")
    git(folder / "outer", "add", "--all")
    git(folder / "outer", "commit", "--quiet", "--message", "all")
    return folder / "outer" / "sub"


def clone_worktree(repository: Path, folder: Path) -> Path:
    git(folder, "clone", "--quiet", str(repository), "main")
    git(folder / "main", "worktree", "add", "--quiet", str(folder / "worktree"))
    return folder / "worktree"


def clone_shallow(repository: Path, folder: Path) -> Path:
    git(repository, "commit", "--quiet", "--allow-empty", "--message", "more")
    git(folder, "clone", "--quiet", "--depth", "1", f"file://{repository}", "shallow")
    return folder / "shallow"


def clone_odd_name(repository: Path, folder: Path) -> Path:
    git(folder, "clone", "--quiet", str(repository), "it's a 模型 #1")
    return folder / "it's a 模型 #1"


def unpack_archive(repository: Path, folder: Path) -> Path:
    git(repository, "archive", "--prefix", "archive/", "--output", str(folder / "archive.tar"), "HEAD")
    shutil.unpack_archive(folder / "archive.tar", folder, filter="data")
    return folder / "archive"


PLACES = {
    "subfolder": clone_subfolder,
    "worktree": clone_worktree,
    "shallow": clone_shallow,
    "odd name": clone_odd_name,
    "archive": unpack_archive,
}
QUICK = ("odd name", "archive")
# What the home folder is -> the environment variables for it.
HOMES = {"read-only": {"HOME": "/proc"}, "missing": {"HOME": "/missing"}}


@pytest.fixture
def run(tmp_path) -> Callable[..., str]:
    """Return a function that runs a command in a folder, without a network where this host can do that."""
    unshare = ["unshare", "--net", "--map-root-user"]
    alone = subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode == 0

    def command(folder: Path, *arguments: object, environment: dict[str, str] = BARE) -> str:
        words = [*(unshare if alone else []), *map(str, arguments)]
        result = subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout + result.stderr

    return command


def build(folder: Path, run: Callable[..., str], environment: dict[str, str]) -> None:
    run(folder, CONSOLE, "compose", "latency.rounds=70", "model.folder=/data/模型/a=b", environment=environment)
    run(folder, CONSOLE, "build", environment=environment)
    assert manifest.verify(folder / "data").parameters == {"size": 70}


@pytest.mark.parametrize(
    "place", [place if place in QUICK else pytest.param(place, marks=pytest.mark.slow) for place in PLACES]
)
def test_a_clone_builds_where_people_put_it(repository, run, tmp_path, place):
    folder = PLACES[place](repository, tmp_path)
    build(folder, run, BARE)
    if place == "archive":
        assert "up to date" in run(folder, DVC, "repro")


@pytest.mark.parametrize("home", ["read-only", pytest.param("missing", marks=pytest.mark.slow)])
def test_a_clone_builds_without_a_home(repository, run, tmp_path, home):
    git(tmp_path, "clone", "--quiet", str(repository), "clone")
    build(tmp_path / "clone", run, BARE | HOMES[home])


@pytest.mark.slow
def test_the_real_stages_build_without_a_home_and_a_network(root, run, tmp_path):
    git(tmp_path, "clone", "--quiet", str(root), "a 模型")
    folder = tmp_path / "a 模型"
    overrides = ["suite.queries=20", "suite.corpus=100", "suite.services=5", "suite.languages=[de,fr]"]
    run(folder, CONSOLE, "compose", *overrides, environment=BARE | {"HOME": "/proc"})
    run(folder, DVC, "repro", "download", "data", "convert@static", environment=BARE | {"HOME": "/proc"})
    importing = "from stages.common.contract.process import run_stage; run_stage(lambda: __import__('mteb'))"
    run(folder, sys.executable, "-c", importing, environment=BARE | {"HOME": "/proc"})


def test_outside_a_clone_a_build_says_where_to_run(tmp_path):
    result = subprocess.run(
        [CONSOLE, "build"], cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert "has no dvc.yaml; run this in the repository root" in result.stderr
