"""kill -9 at any moment: the output is absent or whole, and a plain re-run gives the bytes of an undisturbed build."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from embed_foundry import manifest

SWEEP = Path(__file__).with_name("sweep.py")


@pytest.mark.parametrize("mode", ["fresh", "replace"])
def test_killed_before_every_file_system_call_of_a_publication(tmp_path, mode):
    done = subprocess.run([sys.executable, SWEEP, tmp_path / "it", mode], capture_output=True, text=True, check=True)
    runs = [json.loads(line) for line in done.stdout.splitlines()]
    killed = [run for run in runs if run["killed"]]
    assert len(killed) > 15, "the sweep saw too few calls to say anything"
    assert {run["left"] for run in runs} == ({"absent", "new"} if mode == "fresh" else {"absent", "old", "new"})
    # Of a replacement, one kill may fall between its two renames; the next run puts the previous output back first,
    # so that it is still there if that run fails.
    assert sum(run["left"] == "absent" for run in killed) <= (1 if mode == "replace" else len(killed))
    assert {run["kept"] for run in runs} == {"absent" if mode == "fresh" else "old", "new"}
    assert {run["again"] for run in runs} == {"new"}
    assert [run["litter"] for run in runs if run["litter"]] == []
    assert (runs[-1]["killed"], runs[-1]["left"]) == (False, "new")


def stop(workplace: Path, name: str, sent: signal.Signals, when: str) -> str:
    """Start a conversion, send a signal once a file exists in its work folder, and return what it wrote to stderr."""
    running = subprocess.Popen(
        [sys.executable, "-m", "stages.convert", name], cwd=workplace, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    deadline = time.monotonic() + 120
    while not list((workplace / "variants").glob(f".{name}.partial/**/{when}")):
        assert running.poll() is None, running.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    running.send_signal(sent)
    said = running.communicate(timeout=120)[1]
    assert running.returncode != 0, "it ended before the signal"
    return said


def test_killed_conversion_leaves_nothing_and_runs_again_to_the_same_bytes(workplace, converted):
    for when in ("*.onnx", "variant.json"):  # while it exports, and while parity is measured
        stop(workplace, "onnx_int8", signal.SIGKILL, when)
        assert not (workplace / "variants" / "onnx_int8").exists()
    subprocess.run([sys.executable, "-m", "stages.convert", "onnx_int8"], cwd=workplace, check=True)
    made = workplace / "variants" / "onnx_int8"
    manifest.verify(made)
    assert (made / manifest.NAME).read_bytes() == (converted("onnx_int8") / manifest.NAME).read_bytes()
    assert sorted(path.name for path in made.parent.iterdir()) == [".onnx_int8.lock", "onnx_int8"]


def test_terminated_conversion_cleans_up_in_one_line(workplace):
    said = stop(workplace, "onnx_fp32", signal.SIGTERM, "*.onnx")
    assert said.splitlines()[-1] == "interrupted; nothing was published"
    assert "Traceback" not in said
    assert [path.name for path in (workplace / "variants").iterdir()] == [".onnx_fp32.lock"]
