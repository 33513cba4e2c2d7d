"""What the tests of add-model share: tiny models under names like the hub's, and what the command wrote, composed."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from stages.commands import add_model, compose
from stages.common import config
from support import architectures
from support.saved_models import SETTINGS, edit, write

CARD = """---
license: apache-2.0
language: [en, de]
---
# Tiny
```json
{"loss": "MultipleNegativesRankingLoss", "matryoshka_dims": [48, 32, 16]}
```
"""


@pytest.fixture(scope="session")
def named(tmp_path_factory) -> Callable[..., Path]:
    """Return a function that returns the folder of a tiny architecture, saved by sentence-transformers."""
    folders: dict[tuple[str, int | None], Path] = {}

    def save(name: str, dimensions: int | None = None) -> Path:
        if (name, dimensions) not in folders:
            folder = tmp_path_factory.mktemp("saved") / f"Tiny-{name}-v1.5"
            folders[name, dimensions] = architectures.build(name, folder, dimensions=dimensions)
        return folders[name, dimensions]

    return save


@pytest.fixture
def bert(named, tmp_path) -> Path:
    """Return a copy of a tiny BERT, to be changed."""
    return shutil.copytree(named("bert"), tmp_path / "Tiny-bert-v1.5")


@pytest.fixture
def conf(root, tmp_path) -> Path:
    """Return a copy of conf/."""
    return shutil.copytree(root / "conf", tmp_path / "conf")


def as_gemma(folder: Path) -> None:
    """Give a model EmbeddingGemma's prompts and a card."""
    prompts = {"query": "task: search result | query: ", "document": "title: none | text: "}
    edit(SETTINGS, prompts={**prompts, "STS": "task: sentence similarity | query: ", "Summary-x": "task: x"})(folder)
    write("README.md", CARD)(folder)


def read(added: add_model.AddedModel) -> config.Model:
    """Return the model that the command wrote, as the build reads it: composed."""
    composed = compose.compose([f"model={added.path.stem}"], added.path.parent.parent)
    return config.parse(yaml.safe_load(composed), "conf/").model
