"""Two builds in one clone, and stages whose DVC was killed: one process writes, the others stop and say who does."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from embed_foundry import manifest
from embed_foundry.output import lock
from embed_foundry.output.leftovers import sweep

FAULTS = Path(__file__).parent
DVC = [sys.executable, "-m", "dvc"]
CONSOLE = Path(sys.executable).with_name("embed-foundry")
WRITER = f"{sys.executable} {FAULTS / 'writer.py'}"


@pytest.fixture
def clone(root, tmp_path) -> Path:
    """Return a repository of one stage, in which `make` runs: its mode is in params.yaml."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy2(root / name, tmp_path)  # keeps its time, by which make knows that the environment is ready
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parent.parent)
    # DVC keeps runs of stages with a dependency only.
    stage = f"  writer:\n    cmd: {WRITER} out 10 ${{mode}}\n    params: [mode]\n    outs: [out]\n"
    (tmp_path / "dvc.yaml").write_text(f"stages:\n{stage}")
    set_mode(tmp_path, "")
    subprocess.run([*DVC, "init", "--no-scm", "--quiet"], cwd=tmp_path, check=True)
    return tmp_path


def set_mode(clone: Path, mode: str, after: str = "") -> None:
    (clone / "params.yaml").write_text(f"mode: '{mode}{after}'\n")


@pytest.fixture
def start(clone) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts a command in the clone and returns it once the stage is halfway."""
    started = []

    def command(*arguments: object, **environment: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [*map(str, arguments)],
            cwd=clone,
            env=os.environ | environment,
            stdin=pipe,
            stdout=pipe,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        lines = []
        while "half" not in lines:
            lines.append(process.stdout.readline().rstrip("\n"))
            assert lines[-1] or process.poll() is None, lines
        return process

    yield command
    for process in started:
        process.kill()
        process.communicate()


def run(clone: Path, *arguments: object) -> tuple[int, str]:
    result = subprocess.run([*map(str, arguments)], cwd=clone, capture_output=True, text=True, timeout=60, check=False)
    return result.returncode, result.stdout + result.stderr


def test_of_two_builds_one_goes_on_and_the_other_names_it(clone, start):
    set_mode(clone, "wait")
    first = start("make", "build")
    builder = next(child for child in psutil.Process(first.pid).children() if "build" in child.cmdline())
    code, message = run(clone, CONSOLE, "build")
    assert code == 75
    assert message == (
        f"error: {clone}: process {builder.pid} is building here. "
        "Wait until it ends, or end it, then run the same command again.\n"
    )
    code, message = run(clone, "make", "build")
    assert "Error 75" in message
    assert f"process {builder.pid} is building here" in message
    assert "rwlock" not in message
    first.communicate("go\n", timeout=60)
    assert manifest.verify(clone / "out").parameters == {"size": 10}


def test_a_build_beside_a_bare_dvc_names_it(clone, start):
    set_mode(clone, "wait")
    first = start(*DVC, "repro")
    code, message = run(clone, CONSOLE, "build")
    assert code == 75
    assert f"process {first.pid} is building here (" in message
    assert "rwlock" not in message
    first.communicate("go\n", timeout=60)
    assert first.returncode == 0
    assert run(clone, CONSOLE, "build")[0] == 0, "what DVC recorded of processes that ended stops nobody"


def read_writer(clone: Path) -> psutil.Process:
    """Return the process that is writing the output."""
    return psutil.Process(int((clone / ".out.lock").read_text()))


@pytest.mark.parametrize(
    ("shell", "after"),
    [
        pytest.param("/bin/sh", "", marks=pytest.mark.slow),
        ("/bin/sh", " && true"),
        pytest.param("/bin/bash", " && true", marks=pytest.mark.slow),
    ],
)
def test_a_stage_stops_when_its_dvc_is_killed(clone, start, shell, after):
    """Also where the shell that DVC started stays between the two."""
    set_mode(clone, "wait", after)
    dvc = start(*DVC, "repro", SHELL=shell)
    writer = read_writer(clone)
    dvc.send_signal(signal.SIGKILL)
    writer.wait(timeout=10)
    assert not (clone / "out").exists()
    assert not (clone / ".out.partial").exists()
    dvc.wait()
    assert f"DVC (process {dvc.pid}) has ended; this stage stops" in dvc.stdout.read()
    set_mode(clone, "")
    assert run(clone, CONSOLE, "build")[0] == 0


def test_a_stage_that_nothing_interrupts_does_not_replace_what_a_second_run_restored(clone, start):
    set_mode(clone, "deaf")
    dvc = start(*DVC, "repro")
    assert dvc.communicate("go\n", timeout=60)
    dvc = start(*DVC, "repro", "--force")
    writer = read_writer(clone)
    dvc.send_signal(signal.SIGKILL)
    dvc.wait()
    code, message = run(clone, *DVC, "repro")
    assert code == 0
    assert "checking out outputs" in message
    restored = (clone / "out").stat().st_ino
    dvc.stdin.write("go\n")
    dvc.stdin.flush()
    writer.wait(timeout=10)
    assert (clone / "out").stat().st_ino == restored
    assert f"out: DVC (process {dvc.pid}) has ended, so this stage writes nothing" in dvc.stdout.read()
    assert not (clone / ".out.partial").exists()


def test_a_stage_that_a_person_starts_outlives_the_shell(clone, start):
    """As `nohup python -m stages.quality &` does."""
    shell = start("/bin/bash", "-c", f"{WRITER} out 10 wait; true")
    writer = read_writer(clone)
    shell.kill()
    time.sleep(1.5)
    assert writer.is_running()
    shell.stdin.write("go\n")
    shell.stdin.flush()
    writer.wait(timeout=10)
    manifest.verify(clone / "out")


def test_a_closed_terminal_cleans_up(clone, start):
    writer = start(*WRITER.split(), "out", 10, "wait")
    writer.send_signal(signal.SIGHUP)
    message = writer.communicate(timeout=60)[0]
    assert (writer.returncode, message) == (130, "interrupted; no output is half-written\n")
    assert not (clone / ".out.partial").exists()


@pytest.mark.parametrize("command", [(CONSOLE, "build"), (CONSOLE, "repair"), (*WRITER.split(), "other", 10)])
def test_what_a_killed_stage_left_is_swept_by_the_next_command(clone, command):
    assert run(clone, *DVC, "repro", "--quiet")[0] == 0
    writer = subprocess.Popen([*WRITER.split(), "out", "10", "wait"], cwd=clone, stdin=subprocess.PIPE)
    while not (clone / ".out.partial" / "data").exists():
        assert writer.poll() is None
        time.sleep(0.01)
    writer.kill()
    writer.wait()
    before = manifest.verify(clone / "out").digest
    code, message = run(clone, *command)
    assert code == 0, message
    assert not (clone / ".out.partial").exists()
    assert manifest.verify(clone / "out").digest == before


def test_a_sweep_leaves_what_is_being_written_and_what_is_not_ours(tmp_path):
    for name in (".busy.partial", ".left.partial", ".model.tar.partial"):
        (tmp_path / "models" / name).mkdir(parents=True)
    for name in (".busy.lock", ".left.lock"):
        (tmp_path / "models" / name).touch()
    (tmp_path / "models" / ".moved.old.partial").mkdir()
    (tmp_path / "models" / ".moved.old.partial" / "data").touch()
    (tmp_path / "models" / ".moved.lock").touch()
    with lock.hold(tmp_path / "models" / ".busy.lock", "busy"):
        removed = sweep(tmp_path)
    assert [path.name for path in removed] == [".left.partial", ".moved.old.partial"]
    names = {path.name for path in (tmp_path / "models").iterdir() if path.suffix != ".lock"}
    assert names == {".busy.partial", ".model.tar.partial", "moved"}
    assert (tmp_path / "models" / "moved" / "data").exists()
