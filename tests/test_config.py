"""Every option in conf/ composes to a valid configuration with a comment on each value; the schema is strict."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from embed_foundry.errors import InputError

from stages.commands import compose
from stages.common import config
from stages.common.config.variant import TorchRecipe

CONF = Path(__file__).resolve().parent.parent / "conf"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = sorted(path.relative_to(CONF).as_posix() for path in CONF.rglob("*.yaml"))
KEY = re.compile(r"^( *)([\w.-]+|\"[^\"]+\"):(?: +(\S.*))?$")
REACH = 2  # how many values of a mapping may be between a value and the comment that covers it


def list_options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def compose_params(*overrides: str) -> config.Params:
    return config.parse(yaml.safe_load(compose.compose(list(overrides), CONF)), "conf/")


@pytest.mark.parametrize("name", list_options("model"))
def test_every_model_composes(name):
    unconfirmed = yaml.safe_load((CONF / "model" / f"{name}.yaml").read_text()).get("revision") == "to-be-set"
    if unconfirmed:  # its file explains: the commit could not be confirmed yet
        with pytest.raises(InputError, match=r"model\.revision: .*40 hex digits"):
            compose_params(f"model={name}")
    model = compose_params(f"model={name}", *([f"model.revision={COMMIT}"] if unconfirmed else [])).model
    assert model.dimensions == max(model.matryoshka)
    assert len(set(model.matryoshka)) == len(model.matryoshka)
    assert {"config.json", "modules.json", "tokenizer.json"} <= set(model.files)
    assert any(file.endswith(".safetensors") for file in model.files)


@pytest.mark.parametrize("name", list_options("target"))
def test_every_target_composes_and_can_release(name):
    params = compose_params(f"target={name}")
    built = [candidate for candidate in params.target.candidates if candidate in params.variants]
    assert built == params.target.candidates, "a candidate that is not built cannot pass"
    assert set(params.target.candidates) <= set(params.target.limits), "what may ship has limits of its own"
    for candidate in built:
        assert not isinstance(params.variants[candidate], TorchRecipe), "the runtime has no torch"


@pytest.mark.parametrize("name", [name for name in list_options("variant") if name != "fp32"])
def test_every_variant_composes_under_its_own_name(name):
    assert sorted(compose_params(f"variant=[fp32,{name}]").variants) == sorted(["fp32", name])


@pytest.mark.parametrize("group", ["suite", "engine", "finetune"])
def test_every_option_of_the_other_groups_composes(group):
    required = {"airgapped": ["suite.data=/mine"], "dask": ["engine.address=tcp://host:8786"]}  # without a default
    for name in list_options(group):
        compose_params(f"{group}={name}", *required.get(name, []))


def test_every_group_is_tested_here():
    assert sorted(path.name for path in CONF.iterdir() if path.is_dir()) == [
        "engine", "finetune", "model", "suite", "target", "variant"
    ]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_every_value_has_a_comment(name):
    bare = list(find_uncovered_values((CONF / name).read_text().splitlines()))
    assert bare == [], f"conf/{name}: write a comment on these lines, or above them"


def find_uncovered_values(lines: list[str]) -> Iterator[str]:
    """Yield values without a comment.

    A comment covers a value on the same line, a value below it with at most REACH other values of the same mapping in
    between, and likewise a mapping that holds the value.
    """
    block = None  # indentation of a mapping or list under a covered key
    below: dict[int, int] = {}  # indentation -> keys since the last comment with it
    for line in lines:
        if not line.strip():
            below, block = {}, None
            continue
        indent = len(line) - len(line.lstrip())
        if block is not None and indent > block:
            continue
        block = None
        if line.lstrip().startswith("#"):
            below = {level: count for level, count in below.items() if level < indent} | {indent: 0}
            continue
        below = {level: count for level, count in below.items() if level <= indent}
        key = KEY.match(line)
        covered = "  #" in line or (indent in below and below[indent] <= REACH)
        if indent in below:
            below[indent] += 1
        if covered:
            block = indent if key and not key[3] else None
        elif not (key and not key[3]):  # a mapping without a comment is judged by what it holds
            yield line


def test_the_comment_check_finds_bare_values():
    text = "# on all\na: 1\nb: 2\nc: 3\nd: 4\n\ne:\n  f: 5\n  # why\n  g: 6\n\nh: 7  # now"
    assert list(find_uncovered_values(text.splitlines())) == ["d: 4", "  f: 5"]


def test_load_reads_what_compose_wrote(tmp_path):
    conf = shutil.copytree(CONF, tmp_path / "conf")
    compose.write(["target=railway_cpu"], conf=conf, params=tmp_path / "params.yaml")
    assert config.load(tmp_path / "params.yaml") == compose_params("target=railway_cpu")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "missing; run this in the repository root"),
        (b"", "the whole file: Input should be a valid dictionary"),
        (b"- 1\n", "the whole file: Input should be a valid dictionary"),
        (b"a: [", "not readable YAML"),
        (b"\xff\xfe\xfa", "not readable YAML"),
        (b"<<<<<<< HEAD\nbaseline: fp32\n=======\n", "not readable YAML"),
        (b"!!python/object/apply:os.system ['true']\n", "not readable YAML"),
        (b"baseline: fp32\n", "model: Field required"),
    ],
)
def test_a_broken_params_file_is_refused_with_an_explanation(tmp_path, content, message):
    if content is not None:
        (tmp_path / "params.yaml").write_bytes(content)
    with pytest.raises(InputError) as caught:
        config.load(tmp_path / "params.yaml")
    assert message in str(caught.value)
    assert "embed-foundry compose" in str(caught.value)


def test_truncated_params_are_refused_or_drift(tmp_path):
    whole = compose.compose([], CONF)
    params = tmp_path / "params.yaml"
    refused = 0
    lines = whole.splitlines(keepends=True)
    for end in range(len(lines)):
        params.write_bytes(b"".join(lines[:end]))
        try:
            config.load(params)
        except InputError:
            refused += 1
            continue
        with pytest.raises(InputError, match="differs from what conf/ composes to"):
            compose.write([], check=True, conf=CONF, params=params)
    assert refused > len(lines) - 10, "only a list at the end may be shorter and still valid"


def test_configuration_is_frozen():
    params = compose_params()
    with pytest.raises(ValueError, match="frozen"):
        params.target.required = 1
