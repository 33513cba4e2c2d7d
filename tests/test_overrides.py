"""Overrides as people type them: the text arrives, in params.yaml and in what `dvc exp run` starts from."""

import shutil
from pathlib import Path

import pytest
import yaml
from embed_foundry import InputError

from stages.commands import compose

# Values as people type them: what arrives is the text itself.
TEXTS = [
    "/data/a=b",
    "/data/a,b",
    "/data/模型/x",
    "/data/été #1/~x",
    "~/models",
    "/my docs",
    " /a ",
    'it\'s "quoted"',
    "/data/{a}[b](c)",
    "/data/a(b)",
    "C:\\data\\new",
    "/ends/in\\",
    "$HOME/x",
    "/a;b&c|d<e>f`g!h^i%j@k?l*m+n",
    "first line\nsecond: ",
    "query: ",
    "1e3x",
]
KEYS = ["model.folder", "suite.data", "finetune.data.path", "engine.shared", "+model.prompts.query"]
GROUPS_OF_KEYS = ["suite=airgapped", "finetune=lora", "finetune.data.source=triplets", "engine=dask"]


@pytest.fixture
def conf(root, tmp_path) -> Path:
    """Return a copy of conf/ that a test may write to."""
    return shutil.copytree(root / "conf", tmp_path / "conf")


def write_overrides(conf: Path, *overrides: str) -> dict:
    params = conf.parent / "params.yaml"
    compose.write(overrides, conf=conf, params=params)
    assert compose.compose([], conf, "choices") == params.read_bytes(), "dvc exp run would build something else"
    return yaml.safe_load(params.read_text(encoding="utf-8"))


@pytest.mark.parametrize("text", TEXTS)
def test_a_plain_text_arrives_as_it_was_typed(conf, text):
    values = dict.fromkeys(KEYS, text)
    required = ["engine.address=tcp://h:1", "+model.prompts.document=d"]
    overrides = [*GROUPS_OF_KEYS, *required, *(f"{key}={value}" for key, value in values.items())]
    composed = write_overrides(conf, *overrides)
    arrived = {
        "model.folder": composed["model"]["folder"],
        "suite.data": composed["suite"]["data"],
        "finetune.data.path": composed["finetune"]["data"]["path"],
        "engine.shared": composed["engine"]["shared"],
        "+model.prompts.query": composed["model"]["prompts"]["query"],
    }
    assert arrived == values


def test_a_number_of_too_many_digits_is_refused(conf):
    with pytest.raises(InputError):
        write_overrides(conf, f"suite.seed={'9' * 5001}")
