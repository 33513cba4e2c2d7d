"""repair: what DVC would trust although its bytes are wrong is removed, and `dvc repro` builds the same bytes anew."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from embed_foundry import manifest

WRITER = Path(__file__).parent / "faults" / "writer.py"
DVC = [sys.executable, "-m", "dvc"]


def call(folder: Path, *command: object) -> subprocess.CompletedProcess[str]:
    words = list(map(str, command))
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """Return a DVC repository with one stage of ours, run and cached."""
    folder = tmp_path_factory.mktemp("built")
    stage = f"stages:\n  it:\n    cmd: {sys.executable} {WRITER} out 1000\n    outs: [out]\n"
    (folder / "dvc.yaml").write_text(stage)
    assert call(folder, *DVC, "init", "--no-scm", "--quiet").returncode == 0
    done = call(folder, *DVC, "repro", "--quiet")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def clone(built, tmp_path) -> Path:
    """Return a copy of the repository."""
    return shutil.copytree(built, tmp_path / "clone")


def cached(clone: Path, content: bytes) -> Path:
    """Return the object in DVC's cache that holds these bytes."""
    objects = (clone / ".dvc" / "cache" / "files").rglob("*")
    return next(path for path in objects if path.is_file() and path.read_bytes() == content)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)  # DVC protects its objects
    path.write_bytes(data)


def test_a_whole_repository_is_left_alone(clone, console):
    before = (clone / "dvc.lock").read_bytes()
    done = console("repair", cwd=clone)
    assert (done.returncode, done.stdout) == (0, "nothing corrupt\n")
    manifest.verify(clone / "out")
    assert (clone / "dvc.lock").read_bytes() == before


@pytest.mark.parametrize("where", ["cache", "output", "both"])
def test_a_flipped_bit_is_removed_and_the_same_bytes_built_again(clone, console, where):
    whole, lock = (clone / "out" / "data").read_bytes(), (clone / "dvc.lock").read_bytes()
    if where in ("cache", "both"):
        flip(cached(clone, whole))
    if where in ("output", "both"):
        flip(clone / "out" / "data")
    done = console("repair", cwd=clone)
    assert done.returncode == 0, done.stderr
    assert "next: dvc repro" in done.stdout
    assert ("removed out" in done.stdout) == (where in ("output", "both"))
    assert ("removed .dvc/cache/files" in done.stdout) == (where in ("cache", "both"))
    done = call(clone, *DVC, "repro", "--quiet")
    assert done.returncode == 0, done.stderr
    manifest.verify(clone / "out")
    assert (clone / "out" / "data").read_bytes() == whole
    assert (clone / "dvc.lock").read_bytes() == lock
    assert console("repair", cwd=clone).stdout == "nothing corrupt\n"
    shutil.rmtree(clone / "out")
    assert call(clone, *DVC, "checkout", "--quiet").returncode == 0
    manifest.verify(clone / "out")


def test_without_repair_dvc_hands_out_the_flipped_bit(clone):
    """The reason for all this: if DVC learns to notice, repair may go."""
    whole = (clone / "out" / "data").read_bytes()
    flip(cached(clone, whole))
    shutil.rmtree(clone / "out")
    assert call(clone, *DVC, "checkout", "--quiet").returncode == 0
    assert (clone / "out" / "data").read_bytes() != whole


def test_while_dvc_runs_it_waits_for_another_time(clone, console):
    hold = "from dvc.repo import Repo\nr = Repo()\nwith r.lock:\n    print('held', flush=True)\n    input()"
    pipe = subprocess.PIPE
    holder = subprocess.Popen([sys.executable, "-c", hold], cwd=clone, stdin=pipe, stdout=pipe, text=True)
    assert holder.stdout.readline() == "held\n"
    done = console("repair", cwd=clone)
    holder.communicate("\n", timeout=60)
    assert done.returncode == 75
    assert "DVC is running in this repository" in done.stderr


def test_outside_a_repository_it_says_so(console, tmp_path):
    done = console("repair", cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
