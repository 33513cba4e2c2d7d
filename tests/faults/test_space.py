"""Stages that write much ask for space first: "needs X, has Y", 75, before the work."""

import pickle
import re
import sys

import pytest

from stages import bundle, finetune, quality
from stages.common.config import Engine
from support import tiny_finetune

# MiniLM's 22.7 million weights; its fp32 copy, its optimizer's moments and so on are as large.
FP32_MB = 91
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


@pytest.fixture(scope="module")
def no_texts(tmp_path_factory):
    return tiny_finetune.write_examples(tmp_path_factory.mktemp("texts")) / "data"


@pytest.mark.parametrize(("method", "copies"), [pytest.param("lora", 1, marks=pytest.mark.slow), ("full", 9)])
def test_finetune_asks_for_the_space_of_its_checkpoints_first(
    run_stage, root, base, no_texts, tmp_path, method, copies
):
    params = tiny_finetune.compose_settings(root, method)
    scratch = tmp_path / "disk" / "scratch"
    folders = (base, no_texts, tmp_path / "out", scratch)
    result = run_stage(finetune.run, params.finetune, params.model, *folders)
    assert require_refused(result, scratch) == pytest.approx(copies * FP32_MB, rel=0.01)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("method", "copies"), [("lora", 1), pytest.param("full", 2, marks=pytest.mark.slow)])
def test_finetune_asks_for_its_outputs_space_first(run_stage, root, base, no_texts, tmp_path, method, copies):
    params = tiny_finetune.compose_settings(root, method)
    folders = (base, no_texts, tmp_path / "disk" / "out", tmp_path / "scratch")
    result = run_stage(finetune.run, params.finetune, params.model, *folders)
    assert require_refused(result, tmp_path / "disk") > copies * FP32_MB
