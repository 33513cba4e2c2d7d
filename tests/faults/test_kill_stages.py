"""kill -9 and Ctrl-C at five moments of every stage: nothing half-written, and the next run gives the same bytes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from embed_foundry import manifest

from support import tiny_pipeline
from support.tiny_pipeline import STAGES

PROGRAM = Path(__file__).with_name("paused_stage.py")
MOMENTS = 5
# Seconds from Ctrl-C to the end; on a busy machine, a process that is torn down needs some of them by itself.
ENDS_WITHIN = 5.0
# The calls among which the moments are: on an unfinished output, and on what a stage keeps for its next run.
WRITES = r"\.partial|\.cache/"
# A file of one line takes two such calls; here, those that ask the system count, too.
CALLS = dict.fromkeys(STAGES, WRITES) | {"machine": rf"{WRITES}|^/proc/|^/sys/"}
# Their bytes are the same in every run, but for files of times; latency's are times.
REPRODUCIBLE = set(STAGES) - {"latency"}
TIMES = "speed.json"
# Needs no other stage to have run.
QUICK = "machine"


@pytest.fixture(scope="module")
def build(tmp_path_factory) -> Path:
    """Return a folder with the inputs of all stages; each stage that a test needs is run once before it."""
    return tiny_pipeline.write(tmp_path_factory.mktemp("build"))


def command(stage: str, *before: object) -> list[str]:
    module, *arguments = STAGES[stage][0].split()
    start = [str(PROGRAM), *map(str, before), module] if before else ["-m", module]
    return [sys.executable, *start, *arguments]


def run(build: Path, stage: str, *before: object) -> None:
    done = subprocess.run(command(stage, *before), cwd=build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def forget(build: Path) -> None:
    """Remove what earlier runs kept for the next one, which then has all the work to do."""
    shutil.rmtree(build / ".cache", ignore_errors=True)


def count_calls(build: Path, stage: str, mark: Path) -> int:
    """Run the stages up to this one; return this one's file-system calls while it replaces an output, undisturbed."""
    for needed, (_, out) in STAGES.items():
        if not (build / out).exists():
            run(build, needed)
        if needed == stage:
            break
    forget(build)
    run(build, stage, -1, mark, CALLS[stage])
    return int(mark.read_text())


def stop_at(
    build: Path, stage: str, call: int, mark: Path, sent: signal.Signals, calls: str | None = None
) -> tuple[float, str]:
    """Send a stage a signal at a call, Ctrl-C to its group; return seconds until its end, and its stderr."""
    mark.unlink(missing_ok=True)
    process = subprocess.Popen(
        command(stage, call, mark, calls or CALLS[stage]),
        cwd=build,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    deadline = time.monotonic() + 300
    while not mark.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    started = time.monotonic()
    if sent == signal.SIGINT:
        os.killpg(process.pid, sent)
    else:
        process.send_signal(sent)
    message = process.communicate(timeout=120)[1]
    assert process.returncode != 0
    return time.monotonic() - started, message


def list_litter(build: Path, stage: str) -> list[str]:
    out = build / STAGES[stage][1]
    return sorted(path.name for path in out.parent.iterdir() if ".partial" in path.name or ".old" in path.name)


def read_output(build: Path, stage: str) -> bytes | dict[str, str] | None:
    """Return a stage's output, complete: a file's bytes, or a folder's hashes but for times; None if there is none."""
    out = build / STAGES[stage][1]
    if not out.exists():
        return None
    if out.is_file():
        return out.read_bytes()
    return {name: digest for name, digest in manifest.verify(out).hashes.items() if name != TIMES}


def choose_moments(calls: int, number: int) -> list[int]:
    """Return the first call, the last, and those at even distances between them."""
    return sorted({1 + round(step * (calls - 1) / (number - 1)) for step in range(number)})


def check(build: Path, stage: str, sent: signal.Signals, mark: Path, number: int) -> None:
    """Stop a stage at so many moments: its last output stays, and each next run ends with the same bytes."""
    moments = choose_moments(count_calls(build, stage, mark), number)
    assert len(moments) == number
    undisturbed = read_output(build, stage)
    assert undisturbed

    def require_intact() -> None:
        output = read_output(build, stage)
        assert output == undisturbed if stage in REPRODUCIBLE else output

    for call in moments:
        forget(build)
        seconds, message = stop_at(build, stage, call, mark, sent)
        require_intact()
        if sent == signal.SIGINT:
            assert message.splitlines()[-1] == "interrupted; no output is half-written", (call, message)
            assert "Traceback" not in message
            assert seconds < ENDS_WITHIN
            assert list_litter(build, stage) == []
        run(build, stage)
        require_intact()
        assert list_litter(build, stage) == []


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT], ids=["kill", "ctrl-c"])
def test_a_stage_that_is_stopped_as_it_begins_and_ends(build, tmp_path, sent):
    check(build, QUICK, sent, tmp_path / "mark", 2)


def test_ctrl_c_while_leftovers_are_looked_for_is_one_line(build, tmp_path):
    (build / ".cache").mkdir(exist_ok=True)
    _, message = stop_at(build, QUICK, 1, tmp_path / "mark", signal.SIGINT, r"^\.cache$")
    assert message.splitlines() == ["interrupted; no output is half-written"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT], ids=["kill", "ctrl-c"])
@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_stopped_at_five_moments_gives_the_same_bytes(build, tmp_path, stage, sent):
    check(build, stage, sent, tmp_path / "mark", MOMENTS)
