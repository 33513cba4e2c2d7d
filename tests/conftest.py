"""Fixtures: the real default model and its conversions, each made once a session and only if a test needs it."""

import os

os.environ["OMP_NUM_THREADS"] = "2"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # on a shared machine, threads that spin while waiting triple the time
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import dataclasses
import functools
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from embed_foundry import cli
from filelock import FileLock

from stages import convert, download
from stages.commands import compose
from stages.common import config
from stages.common.config.variant import Recipe
from stages.common.sources import probe_texts
from support import small_release, tiny_model, tiny_static
from support.hub_server import HubServer
from support.sigstore_server import SigstoreServer
from support.workplace import make_workplace

pytest_plugins = [
    "support.added_models",
    "support.browser_pages",
    "support.browser_release",
    "support.chromium",
    "support.sample_documents",
    "support.saved_models",
    "support.served",
    "support.served_releases",
    "support.small_inputs",
    "support.small_disk",
    "support.store_fixtures",
]

# A background job starts with Ctrl-C ignored, and so would every process that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
# Changes to conf/variant for tests: fewer texts, and a table with other dimensions than the model's.
QUICK = ["variants.static.fit.texts=1000", "variants.static.dimensions=256"]
CONSOLE = Path(sys.executable).with_name("embed-foundry")


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the repository root."""
    return ROOT


@pytest.fixture(scope="session")
def params() -> config.Params:
    """Return what conf/ composes to by default, whatever params.yaml holds now."""
    return config.parse(yaml.safe_load(compose.compose([], ROOT / "conf")), "conf/")


@pytest.fixture(scope="session")
def recipes() -> dict[str, Recipe]:
    """Return every recipe of conf/variant, by name."""
    names = sorted(path.stem for path in (ROOT / "conf" / "variant").glob("*.yaml"))
    composed = compose.compose([f"variant=[{','.join(names)}]", *QUICK], ROOT / "conf")
    return config.parse(yaml.safe_load(composed), "conf/").variants


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory) -> Path:
    """Return a folder that all processes of this session share."""
    alone = "PYTEST_XDIST_WORKER" not in os.environ
    return tmp_path_factory.getbasetemp() if alone else tmp_path_factory.getbasetemp().parent


@pytest.fixture(scope="session")
def conversion_cache(shared_folder) -> Path:
    """Return a folder for what conversions of this session reuse."""
    return shared_folder / "conversions"


@pytest.fixture(scope="session")
def base(params, tmp_path_factory) -> Path:
    """Return the default model's verified folder, taken from its installed package."""
    folder = tmp_path_factory.mktemp("models") / "base"
    download.run(params.model, folder)
    return folder


@pytest.fixture(scope="session")
def converted(params, recipes, base, conversion_cache, shared_folder) -> Callable[[str], Path]:
    """Return a function that returns a default variant's folder; the first process that needs it converts it."""
    variants = shared_folder / "variants"
    variants.mkdir(exist_ok=True)

    @functools.cache
    def folder(name: str) -> Path:
        with FileLock(variants / f"{name}.waiting"):
            if not (variants / name).exists():
                convert.run(name, recipes[name], params.model, base, variants / name, cache=conversion_cache)
        return variants / name

    return folder


@pytest.fixture(scope="session")
def probes() -> list[str]:
    """Return the fifty parity texts."""
    return probe_texts.read_texts()


@pytest.fixture(scope="session")
def reference(base, probes) -> np.ndarray:
    """Return sentence-transformers' own vectors of the fifty texts, each encoded alone: float32 [50, 384]."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(base), device="cpu", local_files_only=True)
    return np.concatenate([model.encode([text], normalize_embeddings=True) for text in probes])


@pytest.fixture(scope="session")
def released(base, converted, params, shared_folder, tmp_path_factory) -> small_release.Build:
    """Return a build with its release, a copy of the one that the first process makes; a test changes a copy of it."""
    made, own = shared_folder / "build", tmp_path_factory.mktemp("own") / "build"
    with FileLock(made.with_name("build.waiting")):
        if not made.exists():
            build = small_release.start(own, base, converted, params.model, params.target, ROOT)
            build.release()
            shutil.copytree(own, made)
            return build
    shutil.copytree(made, own)
    return small_release.Build(params.model, params.target, small_release.list_inputs(own, base, ROOT))


@pytest.fixture(scope="session")
def make_release(released, tmp_path_factory) -> Callable[..., Path]:
    """Return a function that makes a release of some variants; another number gives another digest."""

    @functools.cache
    def folder(number: int, *candidates: str) -> Path:
        sources = tmp_path_factory.mktemp("release")
        copies = {name: sources / name for name in ("catalog", "quality", "latency", "gate", "report")}
        for name, copy in copies.items():
            shutil.copytree(getattr(released.inputs, name), copy)
        resources = released.target.resources.model_copy(update={"memory_mb": 1000 + number})
        target = released.target.model_copy(update={"candidates": list(candidates), "resources": resources})
        build = small_release.Build(released.model, target, dataclasses.replace(released.inputs, **copies))
        build.judge()
        return build.release()

    return folder


@pytest.fixture(scope="session")
def checkout(tmp_path_factory) -> Path:
    """Return a repository with the committed sources of the releases, and this environment."""
    folder = tmp_path_factory.mktemp("checkout") / "repository"
    skip = shutil.ignore_patterns("__pycache__")
    for name in (".ci", "stages/runtime"):
        shutil.copytree(ROOT / name, folder / name, ignore=skip)
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy2(ROOT / name, folder)  # keeps its time, by which make knows that the environment is ready
    small_release.git(folder, "init", "--quiet")
    small_release.git(folder, "add", "--all")
    small_release.git(folder, "commit", "--quiet", "--message", "all")
    (folder / ".venv").symlink_to(Path(sys.executable).parent.parent)
    return folder


@pytest.fixture(scope="session")
def sigstore(tmp_path_factory) -> Iterator[SigstoreServer]:
    """Return a running Sigstore instance."""
    with SigstoreServer(tmp_path_factory.mktemp("sigstore")) as server:
        yield server


@pytest.fixture
def elsewhere(monkeypatch):
    """Give this process another umask and time zone, as another builder would have."""
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    mask = os.umask(0o077)
    yield
    os.umask(mask)
    monkeypatch.undo()
    time.tzset()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import files that docs/faults.md does not name if only the tests that it names are run."""
    if not config.option.markexpr.startswith("faults") or not collection_path.name.startswith("test_"):
        return None
    return collection_path.relative_to(ROOT).as_posix() not in {file for file, _ in list_fault_tests()} or None


@functools.cache
def list_fault_tests() -> set[tuple[str, str]]:
    """Return (file, test) of the tests that docs/faults.md names; "" is every test of the file."""
    return set(FAULT_TEST.findall((ROOT / "docs" / "faults.md").read_text(encoding="utf-8")))


# The files that take longest, in the order in which they start: so no process waits long for the other one's last file.
FAULT_TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
LONGEST = ("convert", "convert_tflite", "finetune", "convert_graph", "quality", "runtime", "latency", "latency_workers")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what docs/faults.md names, and start with the files that take longest."""
    named = list_fault_tests()
    for item in items:
        file = item.path.relative_to(ROOT).as_posix()
        if not named.isdisjoint({(file, ""), (file, item.name.partition("[")[0])}):
            item.add_marker("faults")
    ranks = {f"test_{name}.py": rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(ranks)))


@pytest.fixture(scope="session")
def quick_params() -> bytes:
    """Return a params.yaml of the default build with quicker recipes."""
    return compose.compose(QUICK, ROOT / "conf")


@pytest.fixture
def workplace(base, quick_params, tmp_path) -> Path:
    """Return a folder in which `python -m stages.convert NAME` runs as in the repository."""
    return make_workplace(tmp_path, base, quick_params)


@pytest.fixture
def tiny_build(tmp_path) -> Path:
    """Return the folder of a build for `tiny_static.run_latency`."""
    return tiny_static.write_build(tmp_path)


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """Return a local server that speaks the hub's protocol and serves the tiny model."""
    with HubServer(tiny_model.REPO, tiny_model.REVISION, tiny_model.files()) as server:
        yield server


@pytest.fixture
def console() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs the installed console script and returns its exit code and output."""

    def run(*args: str | Path, cwd: Path = ROOT, stdin: str | bytes = "") -> subprocess.CompletedProcess[str]:
        process = subprocess.run(
            [CONSOLE, *args],
            cwd=cwd,
            input=stdin if isinstance(stdin, bytes) else stdin.encode(),
            capture_output=True,
            timeout=120,
            check=False,
        )
        return subprocess.CompletedProcess(
            process.args, process.returncode, process.stdout.decode(), process.stderr.decode()
        )

    return run


@pytest.fixture
def run_command(capsys) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs a command in this process: exit code, stdout, stderr."""

    def command(*args: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as system_exit:
            cli.main([str(arg) for arg in args])
        output = capsys.readouterr()
        return int(system_exit.value.code or 0), output.out.strip(), output.err

    return command


@pytest.fixture
def first_release(make_release) -> Path:
    return make_release(1, "static")


@pytest.fixture
def second_release(make_release) -> Path:
    return make_release(2, "static")
