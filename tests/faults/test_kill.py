"""kill -9 at any moment: the output is absent or complete, and a re-run gives the bytes of an undisturbed build."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from embed_foundry import manifest

from stages import convert

# How an output is written -> what a kill may leave.
STATES = {"fresh": {"absent", "new"}, "replace": {"old", "new"}, "rename": {"absent", "old", "new"}}
SWEEP = Path(__file__).with_name("sweep.py")


@pytest.mark.parametrize("mode", STATES)
def test_killed_before_every_file_system_call_of_writing_an_output(tmp_path, mode):
    process = subprocess.run(
        [sys.executable, SWEEP, tmp_path / "sweep", mode], capture_output=True, text=True, check=True
    )
    runs = [json.loads(line) for line in process.stdout.splitlines()]
    killed = [run for run in runs if run["killed"]]
    assert len(killed) > 15, "the sweep saw too few calls"
    assert {run["after_kill"] for run in runs} == STATES[mode]
    # One kill may fall between the two renames of a replacement; the next run restores the previous output first, so
    # that it is still there if that run fails.
    assert sum(run["after_kill"] == "absent" for run in killed) <= (1 if mode == "rename" else len(killed))
    assert {run["after_failure"] for run in runs} == {"absent" if mode == "fresh" else "old", "new"}
    assert {run["after_retry"] for run in runs} == {"new"}
    assert [run["leftovers"] for run in runs if run["leftovers"]] == []
    assert (runs[-1]["killed"], runs[-1]["after_kill"]) == (False, "new")


def list_files(folder: Path, pattern: str) -> list[Path]:
    """Return what a folder holds that another process makes and removes meanwhile."""
    try:
        return list(folder.rglob(pattern))
    except FileNotFoundError:
        return []


def interrupt(workplace: Path, name: str, sent: signal.Signals, pattern: str) -> str:
    """Start a conversion, send a signal once its work folder holds a file of the pattern, and return its stderr."""
    running = subprocess.Popen(
        [sys.executable, "-m", "stages.convert", name], cwd=workplace, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    deadline = time.monotonic() + 120
    while not list_files(workplace / "variants" / f".{name}.partial", pattern):
        assert running.poll() is None, running.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    running.send_signal(sent)
    message = running.communicate(timeout=120)[1]
    assert running.returncode != 0, "the conversion ended before the signal"
    return message


def test_killed_conversion_leaves_nothing_and_runs_again_to_the_same_bytes(workplace, converted, conversion_cache):
    """With the graph at hand, as in a build: without torch, a conversion starts in a second."""
    undisturbed = (converted("onnx_int8") / manifest.NAME).read_bytes()
    shutil.copytree(conversion_cache, workplace / convert.CACHE, ignore=shutil.ignore_patterns(".*"))
    for pattern in ("*.onnx", "variant.json"):  # while it rounds, and while parity is measured
        interrupt(workplace, "onnx_int8", signal.SIGKILL, pattern)
        assert not (workplace / "variants" / "onnx_int8").exists()
    subprocess.run([sys.executable, "-m", "stages.convert", "onnx_int8"], cwd=workplace, check=True)
    made = workplace / "variants" / "onnx_int8"
    manifest.verify(made)
    assert (made / manifest.NAME).read_bytes() == undisturbed
    assert sorted(path.name for path in made.parent.iterdir()) == [".onnx_int8.lock", "onnx_int8"]


@pytest.mark.parametrize("name", ["onnx_int8", pytest.param("onnx_fp32", marks=pytest.mark.slow)])
def test_terminated_conversion_cleans_up_in_one_line(workplace, converted, conversion_cache, name):
    """With the graph at hand, and while torch exports it."""
    if name == "onnx_int8":
        converted(name)
        shutil.copytree(conversion_cache, workplace / convert.CACHE, ignore=shutil.ignore_patterns(".*"))
    message = interrupt(workplace, name, signal.SIGTERM, "*.onnx")
    assert message.splitlines()[-1] == "interrupted; no output is half-written"
    assert "Traceback" not in message
    assert [path.name for path in (workplace / "variants").iterdir()] == [f".{name}.lock"]
