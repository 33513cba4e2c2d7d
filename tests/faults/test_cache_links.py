"""DVC's cache of copies, hard links and symbolic links, shared or lost: builds go on, repair removes no intact byte."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from embed_foundry import manifest

FAULTS = Path(__file__).parent
DVC = [sys.executable, "-m", "dvc"]
PIPELINE = f"""
stages:
  writer:
    cmd: {sys.executable} {FAULTS / "writer.py"} out ${{size}}
    outs: [out]
  reader:
    cmd: {sys.executable} {FAULTS / "reader.py"} out copy
    deps: [out]
    outs: [copy]
"""
# What DVC leaves in an output: the link's kind, and whether the cache stands outside the repository.
RARE = [("hardlink", True), ("copy", True), ("symlink", False)]
CACHES = [("symlink", True), *(pytest.param(cache, marks=pytest.mark.slow) for cache in RARE)]


def run(folder: Path, *command: object, code: int = 0) -> str:
    arguments = list(map(str, command))
    result = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == code, result.stdout + result.stderr
    return result.stdout + result.stderr


@pytest.fixture(scope="module", params=CACHES, ids=lambda cache: f"{cache[0]}-{'shared' if cache[1] else 'own'}")
def built(request, tmp_path_factory) -> Path:
    """Return a repository whose two stages ran, by kind of link."""
    kind, shared = request.param
    folder = tmp_path_factory.mktemp(kind) / "clone"
    folder.mkdir()
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "params.yaml").write_text("size: 1000\n")
    run(folder, *DVC, "init", "--no-scm", "--quiet")
    run(folder, *DVC, "config", "cache.type", kind)
    if shared:
        run(folder, *DVC, "cache", "dir", folder.parent / "shared")
    run(folder, *DVC, "repro", "--quiet")
    return folder


@pytest.fixture
def clone(built, tmp_path) -> Path:
    """Return a copy of the repository and its cache with the same links, whose paths are those of the original."""
    kept = tmp_path / "kept"
    run(tmp_path, "cp", "-a", built.parent, kept)
    yield built
    shutil.rmtree(built.parent)
    run(tmp_path, "cp", "-a", kept, built.parent)


def find_objects(clone: Path) -> list[Path]:
    cache = next(path for path in (clone.parent / "shared", clone / ".dvc" / "cache") if path.exists())
    return sorted(path for path in (cache / "files").rglob("*") if path.is_file())


def read_all(clone: Path) -> dict[str, bytes]:
    paths = [*find_objects(clone), *(clone / "out").iterdir(), *(clone / "copy").iterdir()]
    return {str(path): path.read_bytes() for path in paths}


def damage(path: Path) -> None:
    """Change a byte of a file in place, so that all links to it show it."""
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(b"y")


def test_links_are_taken_and_nothing_is_written_through_them(clone):
    objects = {path: path.read_bytes() for path in find_objects(clone)}
    (clone / "params.yaml").write_text("size: 2000\n")
    run(clone, *DVC, "repro", "--quiet")
    assert len((clone / "copy" / "data").read_bytes()) == 2000
    assert {path: path.read_bytes() for path in objects} == objects
    (clone / "params.yaml").write_text("size: 1000\n")
    assert "is cached - skipping run" in run(clone, *DVC, "repro")
    run(clone, *DVC, "repro", "--force", "--quiet")


def test_repair_removes_no_intact_byte(clone, console):
    before = read_all(clone)
    result = console("repair", cwd=clone)
    assert (result.returncode, result.stdout) == (0, "nothing corrupt\n"), result.stderr
    assert read_all(clone) == before
    assert "up to date" in run(clone, *DVC, "repro")


def test_repair_removes_a_damaged_object_and_no_other_file(clone, console):
    data = b"x" * 1000
    before = read_all(clone)
    damaged = next(path for path in find_objects(clone) if path.read_bytes() == data)
    damage(damaged)
    result = console("repair", cwd=clone)
    assert result.returncode == 0, result.stderr
    gone = before.keys() - {path for path in before if Path(path).exists()}
    # Two outputs hold the same bytes; a copy of them is intact.
    linked = {str(damaged), str(clone / "out" / "data"), str(clone / "copy" / "data")}
    assert gone == ({str(damaged)} if "copy-shared" in os.environ["PYTEST_CURRENT_TEST"] else linked)
    assert len(result.stdout.splitlines()) == len(gone) + 1
    run(clone, *DVC, "repro", "--quiet")
    assert read_all(clone) == before
    assert console("repair", cwd=clone).stdout == "nothing corrupt\n"


def test_a_lost_cache_is_built_again(clone, console):
    before = read_all(clone)
    for path in find_objects(clone):
        path.unlink()
    result = console("repair", cwd=clone)
    assert result.returncode == 0, result.stderr
    assert ("a link to nothing" in result.stdout) == ("symlink" in os.environ["PYTEST_CURRENT_TEST"])
    run(clone, *DVC, "repro", "--quiet")
    assert read_all(clone) == before


def test_a_lost_cache_is_built_again_without_repair(clone):
    before = read_all(clone)
    for path in find_objects(clone):
        path.unlink()
    run(clone, *DVC, "repro", "--quiet")
    assert read_all(clone) == before


def test_a_link_to_elsewhere_is_refused_and_repair_leaves_what_it_leads_to(clone, console, tmp_path):
    elsewhere = tmp_path / "data"
    elsewhere.write_bytes(b"x" * 1000)
    (clone / "out" / "data").unlink()
    (clone / "out" / "data").symlink_to(elsewhere)
    message = run(clone, sys.executable, FAULTS / "reader.py", "out", "other", code=3)
    assert "out/data: is not a regular file, but a link to" in message
    assert f"removed out/data (a link; {elsewhere} stays)" in console("repair", cwd=clone).stdout
    assert elsewhere.read_bytes() == b"x" * 1000
    before = (clone / "copy" / manifest.NAME).read_bytes()
    run(clone, *DVC, "repro", "--quiet")
    assert (clone / "copy" / manifest.NAME).read_bytes() == before


def test_outside_its_repository_a_link_into_a_cache_is_named(clone, tmp_path):
    if not (clone / "out" / "data").is_symlink():
        pytest.skip("these links are files to whoever copies them")
    run(tmp_path, "cp", "-a", clone / "out", "copied")
    message = run(tmp_path, sys.executable, FAULTS / "reader.py", "copied", "other", code=3)
    assert "in a cache of DVC's. Next, in the clone: dvc unprotect copied" in message
