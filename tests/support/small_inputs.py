"""Fixtures: small inputs of the stages, each made by the first test process that needs it, for all of them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from stages import data
from stages.common.sources import corpus
from stages.convert import graph
from support import tiny_gemma
from support.altered_copies import changed

# The default suite with few texts: every type of task.
SMALL_SUITE = {"queries": 20, "corpus": 100, "services": 5, "languages": ["de", "fr"]}
SENTENCES = 3000
OPSET = 20


@pytest.fixture(scope="session")
def small_suite(params, shared_folder) -> Path:
    """Return the small suite's folder."""
    folder = shared_folder / "small_suite"
    with FileLock(f"{folder}.waiting"):
        if not folder.exists():
            data.run(params.suite.model_copy(update=SMALL_SUITE), folder)
    return folder


@pytest.fixture(scope="session")
def select_tasks(small_suite, tmp_path_factory) -> Callable[..., Path]:
    """Return a function that copies the small suite with some of its tasks only."""

    def select(*names: str) -> Path:
        records = json.loads((small_suite / "tasks.json").read_text(encoding="utf-8"))
        kept = [record for record in records if record["name"] in names]
        return changed(small_suite, tmp_path_factory.mktemp("tasks") / "data", "tasks.json", json.dumps(kept))

    return select


@pytest.fixture(scope="session")
def sentences(shared_folder) -> list[str]:
    """Return a sample of the packages' sentences, which take ten seconds to read."""
    path = shared_folder / "sentences.json"
    with FileLock(f"{path}.waiting"):
        if not path.exists():
            path.write_text(json.dumps(corpus.sample_texts(None, SENTENCES)), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def gemma(base, shared_folder) -> Path:
    """Return a small Gemma3 with two Dense heads, 64 -> 128 -> 48."""
    folder = shared_folder / "gemma"
    with FileLock(f"{folder}.waiting"):
        if not (folder / "manifest.json").exists():
            tiny_gemma.write(folder, base / "tokenizer.json")
    return folder


@pytest.fixture
def cache_with_graph(gemma, conversion_cache, tmp_path) -> Path:
    """Return a conversion cache that holds the small Gemma3's graph, which takes ten seconds to export, and no more."""
    exported = graph.export(gemma, OPSET, conversion_cache).parent
    shutil.copytree(exported, tmp_path / "cache" / exported.name)
    return tmp_path / "cache"
