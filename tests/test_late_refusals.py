"""What a later stage looks up by name is looked up when it is composed: exit 2 with what there is, not hours later."""

import subprocess
import sys

import pytest
import yaml
from embed_foundry.errors import InputError

from stages.commands import compose
from stages.common import config

# Overrides -> what the message says. Each name is one that a stage after the first would have looked up.
REFUSED = {
    "a candidate": (["target.candidates=[nope]"], "no recipe is named ['nope']", "onnx_int8"),
    "a candidate twice": (["target.candidates=[static,static]"], "each may be listed once", "static"),
    "a candidate without limits": (
        ["target.candidates=[bf16]", "~target.limits.default"],
        "candidates ['bf16'] have no limits",
        "target.limits.default",
    ),
    "a variant": (["variant=[fp32,nope]"], "nope", "onnx_int8"),
    "the baseline": (["baseline=nope"], "baseline 'nope' is not among the variants", "fp32"),
    "limits of a variant": (["+target.limits.nope.size_mb_max=1"], "target.limits of ['nope']", "static"),
    "a limit": (["+target.limits.static.nope_max=1"], "nope_max", "Extra inputs are not permitted"),
    "a limit's task type": (["+target.limits.static.score_min.Nope=1"], "score_min", "'Retrieval'"),
    "a limit's length": (
        ["+target.limits.static.speedup_min={64:2}"],
        "target.limits.static.speedup_min of [64] tokens would never be met",
        "[8, 32, 128, 256]",
    ),
    "a limit's length, by the lengths": (["latency.lengths=[8]"], "speedup_min of [32", "[8]"),
    "a language": (["suite.languages=[xx]"], "no text in ['xx']", "zh_Hans"),
    "a task": (["suite=mteb_core", "suite.tasks=[SciFactt]"], "SciFactt is not a task of mteb", "Did you mean SciFact"),
    "a benchmark": (["suite=mteb_full", "suite.benchmarks=['MTEB(eng, v9)']"], "mteb has no 'MTEB(eng, v9)'", "v2"),
    "a subset": (["suite=mteb_core", "suite.subsets.STS22=[english]"], "STS22 has no english", "suite.subsets"),
    "a subset's task": (["suite=mteb_core", "+suite.subsets.STS99=[en]"], "STS99 is not a task", "Did you mean STS"),
    "a task of a folder elsewhere": (
        ["suite=airgapped", "suite.data=/not/on/this/machine", "suite.tasks=[Nope]"],
        "suite.tasks: Nope is not a task",
        "Rename or remove it",
    ),
    "a script": (["variants.static.vocabulary.scripts=[latn]"], "Unicode names no letter so", "LATIN"),
    "a prompt": (
        ["model=embeddinggemma_300m", "finetune=lora", "finetune.prompts.anchor=nope"],
        "finetune.prompts.anchor is 'nope'",
        "'query'",
    ),
    "a model": (["model=nope"], "nope", "minilm"),
    "a dimension": (["model.matryoshka=[384,512]"], "matryoshka dimensions must be between 1 and 384", "384"),
    "an engine": (["engine.name=nope"], "engine.name", "'local' or 'dask'"),
    "an exporter": (["variants.onnx_fp32.exporter=nope"], "exporter", "'torch' or 'optimum'"),
    "a method": (["finetune=nope"], "nope", "qlora"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_name_that_nothing_has_is_refused_before_anything_is_built(root, case):
    overrides, *words = REFUSED[case]
    with pytest.raises(InputError) as caught:
        compose.compose(overrides, root / "conf")
    assert caught.value.code == 2
    for word in words:
        assert word in str(caught.value)


def test_stages_refuse_an_edited_params_file_as_well(root, tmp_path):
    """`dvc exp run --set-param` and editors pass by compose."""
    values = yaml.safe_load(compose.compose([], root / "conf"))
    values["latency"]["lengths"] = [8]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    process = subprocess.run(
        [sys.executable, "-m", "stages.gate"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (process.returncode, process.stdout) == (2, "")
    assert "speedup_min of [32" in process.stderr
    assert "Traceback" not in process.stderr


NOTES = {
    "a suite without tasks of a limited type": (
        ["suite=mteb_core", "suite.tasks=[STSBenchmark,SciFact]"],
        "target.limits.static: the suite has no task for retention_min.Classification, so it cannot pass.",
    ),
    "no languages": (
        ["suite.languages=[]", "variant=[fp32,onnx_int8]"],
        "target.limits.onnx_int8: the suite has no task for retention_min.BitextMining, so it cannot pass.",
    ),
    "a length that the model does not take": (
        ["model.max_tokens=64"],
        "target.limits.static.speedup_min of [128] tokens cannot be met: minilm takes 64.",
    ),
    "no candidate among the variants": (["variant=[fp32]"], "target.required is 1, and 0 of the candidates are built"),
}


@pytest.mark.parametrize("case", NOTES)
def test_what_cannot_pass_is_told_by_compose(root, tmp_path, case):
    overrides, note = NOTES[case]
    compose.write(overrides, conf=root / "conf", params=tmp_path / "params.yaml")
    assert any(line.startswith(note) for line in compose.list_notes(tmp_path / "params.yaml"))


def test_the_default_build_has_no_notes(root, tmp_path):
    compose.write([], conf=root / "conf", params=tmp_path / "params.yaml")
    assert compose.list_notes(tmp_path / "params.yaml") == []
    assert config.load(tmp_path / "params.yaml").target.required == 1
