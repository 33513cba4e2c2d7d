"""Setting up .venv: which Python, and which build of torch, with programs that only write down how they are called."""

import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

PYTHON = """#!/bin/sh
case "$*" in
--version) echo Python ;;
"-m pip config get global.find-links") exit 1 ;;
"-m venv .venv") mkdir -p .venv/bin && cp "$UV" .venv/bin/uv && cp "$0" .venv/bin/python && basename "$0" >>calls ;;
esac
"""
UV = """#!/bin/sh
echo "uv $*" >>calls
case "$*" in *--dry-run*) echo " + torch==$(sed -n 's/.*"torch==\\([0-9.]*\\)".*/\\1/p' pyproject.toml)$BUILD" ;; esac
"""


@pytest.fixture
def set_up(root, tmp_path):
    """Return a function that sets up .venv on a host with some Pythons: make's exit code, its stderr, the calls."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(root / name, tmp_path)
    (tmp_path / "uv").write_text(UV)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sed", "sh", "mkdir", "cp", "basename", "touch", "grep", "echo"):
        (programs / name).symlink_to(shutil.which(name))

    def run(*pythons: str, build: str = "", arguments: tuple[str, ...] = ()) -> tuple[int, str, list[str]]:
        for name in pythons:
            (programs / name).write_text(PYTHON)
            (programs / name).chmod(0o755)
        (tmp_path / "uv").chmod(0o755)
        environment = {"PATH": str(programs), "UV": str(tmp_path / "uv"), "BUILD": build}
        make = subprocess.run(
            [shutil.which("make"), ".venv/.ready", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        calls = tmp_path / "calls"
        return make.returncode, make.stderr, calls.read_text().splitlines() if calls.exists() else []

    return run


@pytest.mark.parametrize(
    ("pythons", "chosen"),
    [(["python3.13"], "python3.13"), (["python3.13", "python3.12"], "python3.12"), (["python3.11"], "python3.11")],
)
def test_any_supported_python_will_do(set_up, pythons, chosen):
    code, _, calls = set_up(*pythons)
    assert (code, calls[0]) == (0, chosen)


def test_a_python_that_does_not_run_is_passed_over(set_up, tmp_path):
    (tmp_path / "bin" / "python3.11").write_text("#!/bin/sh\nexit 127\n")  # pyenv's, where no version is chosen
    (tmp_path / "bin" / "python3.11").chmod(0o755)
    code, _, calls = set_up("python3.12")
    assert (code, calls[0]) == (0, "python3.12")


def test_without_any_the_message_says_what_to_do(set_up):
    code, stderr, calls = set_up()
    assert (code, calls) == (2, [])
    assert "no Python 3.11, 3.12 or 3.13 runs here: install one" in stderr


def backends(calls: list[str]) -> list[str]:
    return [call.partition("--torch-backend ")[2].split()[0] for call in calls if "--torch-backend" in call]


def test_the_cpu_build_of_torch_is_the_default(set_up):
    assert backends(set_up("python3.11")[2]) == ["cpu"]


def test_another_build_is_a_users_choice(set_up):
    assert backends(set_up("python3.11", build="+cpu", arguments=("TORCH_BACKEND=auto",))[2]) == ["auto"]


def test_none_leaves_the_build_to_the_package_index(set_up):
    code, _, calls = set_up("python3.11", build="+cpu", arguments=("TORCH_BACKEND=",))
    installs = [call for call in calls if call.startswith("uv pip install --quiet") and "torch==" in call]
    assert (code, backends(calls), len(installs)) == (0, [], 1)


def test_a_cpu_build_among_find_links_is_taken_from_there(set_up):
    assert backends(set_up("python3.11", build="+cpu")[2]) == []


def test_wheels_are_those_of_the_python_that_runs(root):
    """A version in [tool.uv.pip] holds for `uv pip install` too: Python 3.13 would get wheels of 3.11."""
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["uv"]["pip"]
    assert "python-version" not in settings


def test_the_lock_holds_no_torch_and_no_cuda(root):
    locked = {line.partition("==")[0] for line in Path(root / "requirements.lock").read_text().splitlines()}
    assert not {name for name in locked if name in ("torch", "triton") or name.startswith("nvidia-")}
