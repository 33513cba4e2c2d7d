"""kill -9 and Ctrl-C at five moments of every stage: nothing half-written, and the next run gives the same bytes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from embed_foundry import manifest

from support import tiny_pipeline
from support.tiny_pipeline import STAGES

PROGRAM = Path(__file__).with_name("paused_stage.py")
POINTS = 5
# Seconds from Ctrl-C to the end; on a busy machine, a process that is torn down needs some of them by itself.
ENDS_WITHIN = 5.0
# Their bytes are the same in every run, but for files of times; latency's are times.
REPRODUCIBLE = set(STAGES) - {"latency", "gate", "report", "bundle"}
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


def count_calls(build: Path, stage: str, mark: Path) -> int:
    """Run the stages up to this one; return this one's file-system calls while it replaces an output, undisturbed."""
    for needed, (_, out) in STAGES.items():
        if not (build / out).exists():
            run(build, needed)
        if needed == stage:
            break
    run(build, stage, -1, mark)
    return int(mark.read_text())


def stop_at(build: Path, stage: str, call: int, mark: Path, sent: signal.Signals) -> tuple[float, str]:
    """Send a stage a signal at a call, Ctrl-C to its group; return seconds until its end, and its stderr."""
    mark.unlink(missing_ok=True)
    process = subprocess.Popen(
        command(stage, call, mark),
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


def points(calls: int) -> Iterator[int]:
    """Yield the first call, the last, and those at even distances between them."""
    yield from sorted({1 + round(number * (calls - 1) / (POINTS - 1)) for number in range(POINTS)})


def check(build: Path, stage: str, sent: signal.Signals, mark: Path) -> None:
    calls = count_calls(build, stage, mark)
    undisturbed = read_output(build, stage)
    assert undisturbed
    for call in points(calls):
        seconds, message = stop_at(build, stage, call, mark, sent)
        assert read_output(build, stage) is not None
        if sent == signal.SIGINT:
            assert message.splitlines()[-1] == "interrupted; no output is half-written", (call, message)
            assert "Traceback" not in message
            assert seconds < ENDS_WITHIN
            assert list_litter(build, stage) == []
    run(build, stage)
    assert list_litter(build, stage) == []
    if stage in REPRODUCIBLE:
        assert read_output(build, stage) == undisturbed
    else:
        assert read_output(build, stage)


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT], ids=["kill", "ctrl-c"])
def test_a_stage_that_is_stopped_at_five_moments(build, tmp_path, sent):
    check(build, QUICK, sent, tmp_path / "mark")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT], ids=["kill", "ctrl-c"])
@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_stopped_at_five_moments_gives_the_same_bytes(build, tmp_path, stage, sent):
    check(build, stage, sent, tmp_path / "mark")
