"""repair: removes what DVC would trust although its bytes are wrong; `dvc repro` then builds the same bytes again."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from embed_foundry import manifest

WRITER = Path(__file__).parent / "faults" / "writer.py"
DVC = [sys.executable, "-m", "dvc"]


def run(folder: Path, *command: object) -> subprocess.CompletedProcess[str]:
    arguments = list(map(str, command))
    return subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """Return a DVC repository with one of our stages, run and cached."""
    folder = tmp_path_factory.mktemp("built")
    stage = f"stages:\n  writer:\n    cmd: {sys.executable} {WRITER} out 1000\n    outs: [out]\n"
    (folder / "dvc.yaml").write_text(stage)
    assert run(folder, *DVC, "init", "--no-scm", "--quiet").returncode == 0
    result = run(folder, *DVC, "repro", "--quiet")
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture
def clone(built, tmp_path) -> Path:
    """Return a copy of the repository."""
    return shutil.copytree(built, tmp_path / "clone")


def find_object(clone: Path, content: bytes) -> Path:
    """Return the object in DVC's cache that holds these bytes."""
    objects = (clone / ".dvc" / "cache" / "files").rglob("*")
    return next(path for path in objects if path.is_file() and path.read_bytes() == content)


def flip_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)  # DVC protects its objects
    path.write_bytes(data)


def test_an_intact_repository_is_left_alone(clone, console):
    before = (clone / "dvc.lock").read_bytes()
    result = console("repair", cwd=clone)
    assert (result.returncode, result.stdout) == (0, "nothing corrupt\n")
    manifest.verify(clone / "out")
    assert (clone / "dvc.lock").read_bytes() == before


@pytest.mark.parametrize(
    "where", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("cache", "output")), "both"]
)
def test_a_flipped_bit_is_removed_and_the_same_bytes_are_built_again(clone, console, where):
    data, lock = (clone / "out" / "data").read_bytes(), (clone / "dvc.lock").read_bytes()
    if where in ("cache", "both"):
        flip_bit(find_object(clone, data))
    if where in ("output", "both"):
        flip_bit(clone / "out" / "data")
    result = console("repair", cwd=clone)
    assert result.returncode == 0, result.stderr
    assert "next: dvc repro" in result.stdout
    assert ("removed out/data" in result.stdout) == (where in ("output", "both"))
    assert ("removed .dvc/cache/files" in result.stdout) == (where in ("cache", "both"))
    result = run(clone, *DVC, "repro", "--quiet")
    assert result.returncode == 0, result.stderr
    manifest.verify(clone / "out")
    assert (clone / "out" / "data").read_bytes() == data
    assert (clone / "dvc.lock").read_bytes() == lock
    assert console("repair", cwd=clone).stdout == "nothing corrupt\n"
    shutil.rmtree(clone / "out")
    assert run(clone, *DVC, "checkout", "--quiet").returncode == 0
    manifest.verify(clone / "out")


def test_without_repair_dvc_hands_out_the_flipped_bit(clone):
    """Why repair exists: if DVC learns to notice, it may go."""
    data = (clone / "out" / "data").read_bytes()
    flip_bit(find_object(clone, data))
    shutil.rmtree(clone / "out")
    assert run(clone, *DVC, "checkout", "--quiet").returncode == 0
    assert (clone / "out" / "data").read_bytes() != data


def test_repair_refuses_to_run_beside_dvc(clone, console):
    hold = "from dvc.repo import Repo\nr = Repo()\nwith r.lock:\n    print('held', flush=True)\n    input()"
    pipe = subprocess.PIPE
    holder = subprocess.Popen([sys.executable, "-c", hold], cwd=clone, stdin=pipe, stdout=pipe, text=True)
    assert holder.stdout.readline() == "held\n"
    result = console("repair", cwd=clone)
    holder.communicate("\n", timeout=60)
    assert result.returncode == 75
    assert "DVC is running in this repository" in result.stderr


def test_outside_a_repository_repair_is_refused(console, tmp_path):
    result = console("repair", cwd=tmp_path)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
