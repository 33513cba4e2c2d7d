"""Stages that write much ask for space first: "needs X, has Y", 75, before the work."""

import pickle
import re
import sys

import pytest

from stages import bundle, quality
from stages.common.config import Engine

# A stage's `run` and its arguments come pickled; the process ends as the stage's own does.
CALL = """
import pickle, sys
from stages.common.contract.process import run_stage
run, arguments = pickle.load(open(sys.argv[1], "rb"))
run_stage(lambda: run(*arguments))
"""


@pytest.fixture
def run_stage(run_on_small_disk, tmp_path):
    """Return a function that runs a stage in a process of its own, beside a disk of 1 MB."""

    def run(stage, *arguments):
        (tmp_path / "call").write_bytes(pickle.dumps((stage, arguments)))
        (tmp_path / "call.py").write_text(CALL, encoding="utf-8")
        return run_on_small_disk("size=1m", f"exec {sys.executable} {tmp_path / 'call.py'} {tmp_path / 'call'}")

    return run


def require_refused(result, folder):
    last = result.stderr.splitlines()[-1]
    assert result.returncode == 75, result.stderr
    assert "Traceback" not in result.stderr
    needed = re.fullmatch(rf"error: {folder}: needs (\d+) MB of free disk, has 1 MB. Free some, then run again.", last)
    assert needed, last
    return int(needed[1])


def test_bundle_asks_for_space_first(run_stage, released, tmp_path):
    disk = tmp_path / "disk"
    result = run_stage(bundle.run, released.model, released.target, released.inputs, disk / "release")
    assert require_refused(result, disk) > 100, "three variants, one of them in fp32"


def test_quality_asks_for_space_first(run_stage, params, converted, select_tasks, tmp_path):
    disk, data = tmp_path / "disk", select_tasks("AwsOperationRetrieval")
    variants, alone = {"static": converted("static")}, Engine(name="local", processes=1)
    folders = (data, disk / "quality", disk / "cache")
    result = run_stage(quality.run, params.quality, variants, "static", [], *folders, alone)
    assert require_refused(result, disk / "cache") >= 8, "a floor of 30,522 tokens, and the documents' vectors"
