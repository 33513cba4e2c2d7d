"""compose: params.yaml has the bytes that DVC writes for conf/ and the overrides; invalid overrides end with 2."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from embed_foundry.errors import InputError

from stages.commands import compose
from stages.common import config

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OVERRIDES = {
    "defaults": [],
    "target with its own variants": ["target=railway_cpu"],
    "variants win over the target's": ["target=railway_cpu", "variant=[fp32,static]"],
    "another model": ["model=bge_small_en_v15"],
    "values": ["latency.rounds=300", "variants.static.dimensions=128", "baseline=bf16", "target.required=1"],
    "a limit added": ["+target.limits.static.cosine_min_min=0.5", "~target.limits.onnx_fp32"],
}


@pytest.fixture(scope="module")
def clone(root, tmp_path_factory) -> Path:
    """Return a git and DVC repository with this one's configuration and one stage that does nothing."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copytree(root / "conf", folder / "conf")
    stage = {"cmd": "true", "params": ["model", "target", "variants", "baseline", "latency"]}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"all": stage}}))
    compose.write([], conf=folder / "conf", params=folder / "params.yaml")
    author = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    run(folder, "git", "init", "--quiet")
    run(folder, sys.executable, "-m", "dvc", "init", "--quiet")
    shutil.copy(root / ".dvc" / "config", folder / ".dvc" / "config")
    run(folder, "git", "add", ".")
    run(folder, "git", *author, "commit", "--quiet", "--message", "start")
    return folder


def run(folder: Path, *command: str) -> str:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("case", ["target with its own variants", "variants win over the target's", "a limit added"])
def test_params_are_what_dvc_itself_writes(clone, case):
    overrides = OVERRIDES[case]
    settings = [part for override in overrides for part in ("-S", override)]
    run(clone, sys.executable, "-m", "dvc", "exp", "run", "--quiet", *settings)
    assert (clone / "params.yaml").read_bytes() == compose.compose(overrides, clone / "conf")


@pytest.fixture
def railway_clone(clone, console, tmp_path) -> Path:
    """Return a repository in which a target and a folder were composed."""
    folder = tmp_path / "clone"
    run(tmp_path, "git", "clone", "--quiet", str(clone), str(folder))
    result = console("compose", *RAILWAY, cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    return folder


RAILWAY = ["target=railway_cpu", "model.folder=/data/模型/a=b"]


def run_experiment(folder: Path, *arguments: str) -> None:
    run(folder, sys.executable, "-m", "dvc", "exp", "run", "--quiet", *arguments)


def test_an_experiment_builds_what_was_composed(railway_clone):
    composed = (railway_clone / "params.yaml").read_bytes()
    run_experiment(railway_clone)
    assert (railway_clone / "params.yaml").read_bytes() == composed
    run_experiment(railway_clone, "-S", "latency.rounds=300")
    longer = compose.compose([*RAILWAY, "latency.rounds=300"], railway_clone / "conf")
    assert (railway_clone / "params.yaml").read_bytes() == longer


def test_an_experiment_may_choose_another_option(railway_clone):
    run_experiment(railway_clone, "-S", "target=local_cpu", "-S", "variant=[fp32,onnx_int8]")
    composed = yaml.safe_load((railway_clone / "params.yaml").read_text(encoding="utf-8"))
    assert (composed["target"]["name"], list(composed["variants"])) == ("local_cpu", ["fp32", "onnx_int8"])
    assert composed["model"]["folder"] == "/data/模型/a=b"


def show_params(folder: Path, revision: str) -> dict:
    return yaml.safe_load(run(folder, "git", "show", f"{revision}:params.yaml"))


def test_experiments_elsewhere_build_what_was_composed(railway_clone):
    """`--temp` runs in a folder of its own, `--queue` later: both from what is composed here and now."""
    run_experiment(railway_clone, "--temp", "--name", "apart")
    refs = run(railway_clone, "git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
    apart = show_params(railway_clone, next(ref for ref in refs if ref.endswith("/apart")))
    run_experiment(railway_clone, "--queue", "-S", "target=local_cpu,android")
    stashed = run(railway_clone, "git", "reflog", "--format=%H", "refs/exps/celery/stash").split()
    queued = [show_params(railway_clone, revision) for revision in stashed]
    assert [params["target"]["name"] for params in (apart, *queued)] == ["railway_cpu", "android", "local_cpu"]
    assert {params["model"]["folder"] for params in (apart, *queued)} == {"/data/模型/a=b"}


def test_where_a_key_is_deleted_an_experiment_changes_values_but_refuses_groups(clone, console, tmp_path):
    folder = tmp_path / "clone"
    run(tmp_path, "git", "clone", "--quiet", str(clone), str(folder))
    overrides = ["target=railway_cpu", "~target.limits.static", "+model.prompts.query=costs ${5}: "]
    result = console("compose", *overrides, cwd=folder)
    assert "note: `dvc exp run -S` changes values of this configuration, but no group" in result.stderr
    run_experiment(folder, "-S", "latency.rounds=300")
    assert (folder / "params.yaml").read_bytes() == compose.compose([*overrides, "latency.rounds=300"], folder / "conf")
    command = [sys.executable, "-m", "dvc", "exp", "run", "-S", "target=local_cpu"]
    refused = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert refused.returncode != 0
    assert "Could not override 'target'" in refused.stderr


def test_check_knows_the_choices(railway_clone, console):
    assert console("compose", "--check", cwd=railway_clone).stdout == "params.yaml: up to date\n"
    assert console("compose", "--check", *RAILWAY, cwd=railway_clone).returncode == 0
    choices = railway_clone / "conf" / "choices.yaml"
    choices.write_bytes(choices.read_bytes().replace(b"railway_cpu\n", b"local_cpu\n"))
    for arguments in ([], RAILWAY):
        result = console("compose", "--check", *arguments, cwd=railway_clone)
        assert result.returncode == 2
        assert "run `embed-foundry compose target=railway_cpu 'model.folder=/data/模型/a=b'`" in result.stderr


def test_a_backslash_that_hydra_takes_for_an_escape_is_told(railway_clone, console):
    result = console("compose", "model.folder=/data/a\\=b", cwd=railway_clone)
    assert result.stderr == (
        "note: model.folder is /data/a=b: to Hydra, a backslash escapes a sign. "
        "To keep it: 'model.folder=\"/data/a\\=b\"'\n"
    )


@pytest.mark.parametrize("case", OVERRIDES)
def test_overrides_compose_to_a_valid_configuration(root, case):
    composed = yaml.safe_load(compose.compose(OVERRIDES[case], root / "conf"))
    config.parse(composed, case)
    assert "${" not in str(composed), "DVC does not resolve interpolations in params.yaml"


def test_a_target_sets_its_variants_and_the_command_line_wins(root):
    def list_variants(*overrides: str) -> list[str]:
        return list(yaml.safe_load(compose.compose(list(overrides), root / "conf"))["variants"])

    assert list_variants() == ["fp32", "bf16", "onnx_fp32", "onnx_int8", "openvino_int8", "static"]
    assert list_variants("target=railway_cpu") == ["fp32", "onnx_fp32", "onnx_int8", "openvino_int8", "static"]
    assert list_variants("target=railway_cpu", "variant=[fp32,static]") == ["fp32", "static"]


def test_the_committed_params_are_composed_from_conf(root, console):
    result = console("compose", "--check")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "params.yaml: up to date\n"


def test_check_finds_drift_and_changes_nothing(root, console, tmp_path):
    shutil.copytree(root / "conf", tmp_path / "conf")
    assert console("compose", "target=railway_cpu", cwd=tmp_path).returncode == 0
    written = (tmp_path / "params.yaml").read_bytes()
    assert console("compose", "--check", "target=railway_cpu", cwd=tmp_path).returncode == 0
    for drift in (written.replace(b"memory_mb: 1024", b"memory_mb: 2048"), written + b"# by hand\n", b"", None):
        if drift is None:
            (tmp_path / "params.yaml").unlink()
        else:
            (tmp_path / "params.yaml").write_bytes(drift)
        result = console("compose", "--check", "target=railway_cpu", cwd=tmp_path)
        assert result.returncode == 2
        assert "run `embed-foundry compose target=railway_cpu`" in result.stderr
        assert (tmp_path / "params.yaml").exists() == (drift is not None)
    assert console("compose", "target=railway_cpu", cwd=tmp_path).returncode == 0
    assert (tmp_path / "params.yaml").read_bytes() == written


# Override -> parts of the message, besides the override's name. Those in CONSOLE also go through the console script.
GROUPS = (
    "android, android_litertlm, apple, arm64_cpu, browser",
    "bf16, fp16, fp32, litertlm_int8, onnx_fp32, onnx_int8, onnx_int8_compact, onnx_q4, onnx_q8, onnx_w4, onnx_w8",
)
REFUSED = {
    "target=nowhere": ("target/nowhere", *GROUPS),
    "variant=[fp32,fp33]": ("variant/fp33", *GROUPS),
    "model=minilm6": ("model/minilm6", "bge_small_en_v15, embeddinggemma_2, embeddinggemma_300m"),
    "targte=local_cpu": ("Could not override 'targte'", *GROUPS),
    "latency.round=3": ("Could not override 'latency.round'",),
    "+latency.round=3": ("latency.round: Extra inputs are not permitted",),
    "+latenzy.rounds=60": ("latenzy: Extra inputs are not permitted",),
    "latency.rounds=many": ("latency.rounds: Input should be a valid integer (got 'many')",),
    "latency.rounds=6.5": ("latency.rounds: Input should be a valid integer",),
    "latency.rounds=true": ("latency.rounds: Input should be a valid integer (got True)",),
    "latency.rounds='60'": ("latency.rounds: Input should be a valid integer",),
    "latency.rounds=null": ("latency.rounds: Input should be a valid integer",),
    "target.resources.threads=0": ("target.resources.threads: Input should be greater than 0",),
    "target.limits.static.size_ratio_max=nan": ("static.size_ratio_max: Value error, a limit must be a finite number",),
    "target.limits.static.size_ratio_max=inf": ("a limit must be a finite number",),
    "target.limits.default.retention_min.STS=-inf": ("a limit must be a finite number",),
    "target.limits.onnx_int8.speedup_min={128: nan}": ("onnx_int8.speedup_min.128: Value error",),
    "+target.limits.default.retention_min.Retrievel=0.9": ("'Retrieval', 'Classification', 'Clustering'",),
    "+target.limits.onnx_in8.size_mb_max=30": ("limits of ['onnx_in8'] would judge nothing", "onnx_int8"),
    "target.required=5": ("target.required is 5, but there are only 4 candidates", "openvino_int8"),
    "target.candidates=[static,nope]": ("no recipe is named ['nope']", "onnx_int8_compact"),
    "suite.languages=[fr,xx]": ("there is no text in ['xx']", "zh_Hans"),
    "target.candidates=[]": ("target.candidates: List should have at least 1 item",),
    "model.revision=main": ("model.revision: Value error, expected the 40 hex digits", "(got 'main')"),
    "model.revision=8b3219a": ("expected the 40 hex digits",),
    f"model.revision={COMMIT.upper()}": ("expected the 40 hex digits",),
    "model.package=null": ("source=package needs model.package",),
    "model.source=folder": ("source=folder needs model.folder=PATH",),
    "model.source=web": ("model.source: Input should be 'package', 'hub' or 'folder'",),
    "model.matryoshka=[512]": ("matryoshka dimensions must be between 1 and 384",),
    "model.files={config.json: abc}": ("model.files.config.json: String should match pattern",),
    "+model.files={model.py: null}": ("a base model may have .json",),
    "baseline=nope": ("baseline 'nope' is not among the variants",),
    "baseline=static": ("baseline 'static' must be of kind torch",),
    "variant=[onnx_fp32]": ("baseline 'fp32' is not among the variants",),
    "variants.static.kind=coreml": ("'torch', 'onnx', 'openvino', 'static', 'tflite'",),
    "+variants.x={kind: tflite, precision: fp32, lengths: [512], rules: []}": ("exceed minilm's 256 tokens",),
    "+variants.x={kind: tflite, precision: int8, lengths: [64], rules: []}": ("rules belong to every precision but",),
    "+variants.x={kind: tflite, precision: fp32, lengths: [64, 64], rules: []}": ("name one twice",),
    "+variants.x={kind: tflite, precision: mixed, lengths: [64], rules: ["
    "{regex: a, operation: '*', algorithm: dequantized_weight_recovery, bits: 4, granularity: CHANNELWISE}]}": (
        "rounding and rules of dequantized_weight_recovery need each other",
    ),
    "variants.fp32.precision=fp8": ("Input should be 'fp32', 'bf16', 'fp16' or 'int8'",),
    "variants.onnx_int8.quantize=null": ("quantize settings belong to every precision but fp32",),
    "variants.onnx_int8.quantize.dynamic=['(']": ("quantize.dynamic.0", "'(' is not a regular expression"),
    "variants.static.sif_coefficient=nan": ("variants.static.static.sif_coefficient",),
    "suite=airgapped": ("suite.folder: Value error, source=folder needs suite.data=FOLDER",),
    "suite.source=web": ("'builtin', 'folder', 'hub'",),
    "variant=[": ("variant=[: a bracket, brace or quote is not closed",),
    "target=local_cpu,railway_cpu": ("target=local_cpu,railway_cpu: compose writes one configuration",),
    "variant=fp32,static": ("For a list, write 'variant=[fp32,static]'.",),
    "latency.lengths=8,32": ("For a list, write 'latency.lengths=[8,32]'.",),
    "latency.rounds=range(1,9)": ("compose writes one configuration; `dvc exp run --queue -S …` takes several",),
    "model.folder=123": ("""For a text, write 'model.folder="123"'.""",),
    "finetune.runs=lora": ("For a list, write 'finetune.runs=[lora]'.",),
    "model.folder=/data/${x}": ("""For a text with ${, write 'model.folder="/data/\\${x}"'.""",),
    "suite.languages=[fr,模]": ("""Write 'suite.languages=[fr, "模"]'.""",),
    "+model.prompts={query: c'est}": ("""write '+model.prompts="{query: c'"'"'est}"'.""",),
    "+model.prompts.запрос=x": ("is no key that Hydra takes", "into a file of conf/"),
    "model.folder=/data/\udcff": ("model.folder=/data/\\xff: is not UTF-8", "Rename the file or folder"),
    "no assignment": ("no assignment: is no override; expected KEY=VALUE",),
}
CONSOLE = [
    "target=nowhere",
    "targte=local_cpu",
    "latency.rounds=many",
    "target.limits.static.size_ratio_max=nan",
    "model.revision=8b3219a",
    "model.package=null",
    "variant=[",
]


@pytest.mark.parametrize("override", REFUSED)
def test_an_invalid_override_is_refused_with_the_valid_options(root, override):
    with pytest.raises(InputError) as caught:
        compose.compose([override], root / "conf")
    assert caught.value.code == 2
    for message in (override.partition("=")[0].lstrip("+").partition(".")[0], *REFUSED[override]):
        assert message in str(caught.value)


@pytest.mark.parametrize("override", CONSOLE)
def test_an_invalid_override_ends_the_command_with_2_and_keeps_params(root, console, tmp_path, override):
    shutil.copytree(root / "conf", tmp_path / "conf")
    (tmp_path / "params.yaml").write_text("before: 1\n")
    result = console("compose", override, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    for message in REFUSED[override]:
        assert message in result.stderr
    assert (tmp_path / "params.yaml").read_text() == "before: 1\n"


def test_all_faults_are_listed_at_once(root):
    with pytest.raises(InputError, match=r"(?s)latency\.rounds.*target\.required"):
        compose.compose(["latency.rounds=x", "target.required=y"], root / "conf")


def test_outside_a_clone_the_message_says_where_to_run(console, tmp_path):
    result = console("compose", cwd=tmp_path)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "conf/config.yaml: missing; run this in the repository root" in result.stderr


def test_a_broken_option_file_is_named(root, console, tmp_path):
    shutil.copytree(root / "conf", tmp_path / "conf")
    (tmp_path / "conf" / "target" / "mine.yaml").write_text("name: [mine\n")
    result = console("compose", "target=mine", cwd=tmp_path)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "mine.yaml" in result.stderr
