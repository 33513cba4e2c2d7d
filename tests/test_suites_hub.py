"""Stock mteb tasks from a local server that speaks the hub's dataset protocol: each fault ends as documented."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from embed_foundry import IntegrityError, RetryableError, manifest
from embed_foundry.errors import InputError, RemoteError

from stages import data
from stages.commands import compose
from stages.common import config
from stages.common.config.suite import HubSuite
from stages.common.sources.hub import Connection
from stages.data import selection
from support.hub_datasets import (
    DOCUMENTS,
    LOADERS,
    QUERIES,
    SCIFACT,
    SCIFACT_REVISION,
    STSB,
    STSB_REVISION,
    STSB_ROWS,
    json_lines,
    scifact,
    stsb,
)
from support.hub_server import Fault, HubServer

SECRET = "hf_aVerySecretToken"


def records(out: Path) -> dict[str, dict]:
    return {record["name"]: record for record in json.loads((out / "tasks.json").read_text(encoding="utf-8"))}


def published(*tasks: str, counts: str = "refuse", benchmarks: tuple[str, ...] = (), **subsets: list[str]) -> HubSuite:
    return HubSuite(
        name="mteb_core", source="hub", benchmarks=list(benchmarks), tasks=list(tasks), subsets=subsets, counts=counts
    )


@pytest.fixture
def hub():
    """Return a server that holds STSBenchmark at mteb's revision."""
    with HubServer(STSB, STSB_REVISION, stsb(), repository_type="datasets") as server:
        yield server


@pytest.fixture
def fetch(hub, tmp_path):
    """Return a function that runs the stage against the server and returns its output folder."""

    def run(suite=None, *, url=None, out="data", offline=False):
        cache = tmp_path / "cache"
        connection = Connection(
            url or hub.url, cache, SECRET, offline, attempts=2, wait_s=0.01, longest_wait_s=1, timeout_s=1
        )
        data.run(suite or published("STSBenchmark"), tmp_path / out, connection)
        return tmp_path / out

    return run


def test_fetches_a_task_at_mtebs_revision_and_needs_the_hub_once(hub, fetch, capfd):
    out = fetch()
    record = records(out)["STSBenchmark"]
    assert (record["dataset"], record["revision"], record["counts"]) == (STSB, STSB_REVISION, "as published")
    lines = (out / "STSBenchmark/test.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == STSB_ROWS
    assert json.loads(lines[7]) == {"sentence1": "one 7", "sentence2": "two 7", "score": 1.0}
    assert {hit.authorization for hit in hub.hits if hit.endpoint == "api"} == {f"Bearer {SECRET}"}
    assert hub.count("file", "test.jsonl") == 1
    assert SECRET not in "".join(capfd.readouterr())
    fetch(out="again")
    assert hub.count("file", "test.jsonl") == 1, "the second run takes it from the cache"
    offline = fetch(out="offline", offline=True)
    assert manifest.read(offline).digest == manifest.read(out).digest


def test_fetches_a_retrieval_task_with_its_configurations(fetch):
    with HubServer(SCIFACT, SCIFACT_REVISION, scifact(), repository_type="datasets") as server:
        out = fetch(published("SciFact"), url=server.url)
    assert records(out)["SciFact"]["counts"] == "as published"
    names = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in (out / "SciFact").iterdir()}
    assert names == {"corpus.jsonl": DOCUMENTS, "queries.jsonl": QUERIES, "qrels.tsv": QUERIES}
    first = json.loads((out / "SciFact/corpus.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert first == {"id": "0", "title": "t0", "text": "document 0"}


@pytest.mark.parametrize("name", LOADERS)
def test_mtebs_own_loaders_read_every_kind_of_repository(fetch, name):
    files, subsets, expected = LOADERS[name]
    suite = published(name, counts="warn", **({name: subsets} if subsets else {}))
    pinned = selection.select_published(suite)[0].task.metadata.dataset
    with HubServer(pinned["path"], pinned["revision"], files, repository_type="datasets") as server:
        out = fetch(suite, url=server.url) / name
    written = {
        path.relative_to(out).as_posix(): [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in out.rglob("*.jsonl")
    }
    assert written | expected == written, "and maybe other files"


def test_fewer_samples_than_published_are_refused_unless_configured(hub, fetch):
    hub.files = stsb(STSB_ROWS - 1)
    with pytest.raises(IntegrityError, match="STSBenchmark: test has 1378 rows, published 1379"):
        fetch()
    assert records(fetch(published("STSBenchmark", counts="warn")))["STSBenchmark"]["counts"] == "differ"


REFUSED = {
    "missing": (Fault("api", status=404, headers={"X-Error-Code": "RepoNotFound"}), RemoteError, "no such dataset"),
    "other revision": (
        Fault("api", status=404, headers={"X-Error-Code": "RevisionNotFound"}), RemoteError, "no such commit"
    ),
    "gated": (Fault("api", status=403, headers={"X-Error-Code": "GatedRepo"}), RemoteError, "gated or forbidden"),
    "gated file": (Fault("head", status=403, headers={"X-Error-Code": "GatedRepo"}), RemoteError, "set HF_TOKEN"),
    "token": (Fault("api", status=401), RemoteError, "a private one .HTTP 401., asked with HF_TOKEN"),
    "down": (Fault("api", status=503), RetryableError, "hub unavailable: task STSBenchmark: dataset mteb/sts"),
    "file down": (Fault("file", "test.jsonl", status=502), RetryableError, "too many 502"),
    "rotten": (Fault("file", "test.jsonl", corrupt=True), IntegrityError, "has digest .* the hub declares"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_each_refusal_ends_as_documented(hub, fetch, tmp_path, case):
    fault, error, words = REFUSED[case]
    hub.faults = [fault]
    with pytest.raises(error, match=words) as caught:
        fetch()
    assert SECRET not in str(caught.value)
    assert not (tmp_path / "data").exists()
    hub.faults = []
    assert records(fetch())["STSBenchmark"]["counts"] == "as published"


def test_bytes_that_rot_in_the_cache_are_fetched_again(hub, fetch, tmp_path):
    first = manifest.read(fetch()).digest
    blob = next((tmp_path / "cache").glob("**/snapshots/*/test.jsonl")).resolve()
    blob.write_bytes(blob.read_bytes().replace(b"one 5", b"six 5"))
    assert manifest.read(fetch(out="again")).digest == first
    assert hub.count("file", "test.jsonl") == 2


def test_a_hub_that_is_not_there(fetch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(RetryableError, match="hub unavailable"):
        fetch(url=url)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set and the cache lacks it"):
        fetch(offline=True)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"test.jsonl": json_lines({"text": "no pair"})}, "STSBenchmark: test of default has no column sentence1"),
        ({"notes.bin": b"1"}, "mteb .* cannot load mteb/stsbenchmark-sts@b0fddb56ed78"),
        ({"train.jsonl": json_lines({"text": "other split"})}, "STSBenchmark: .* has no split test"),
    ],
)
def test_a_dataset_that_mteb_cannot_read(hub, fetch, files, words):
    hub.files = files
    with pytest.raises(IntegrityError, match=words):
        fetch()


@pytest.mark.parametrize(
    ("suite", "words"),
    [
        (published("STSBenchmarks"), r"suite\.tasks: STSBenchmarks is not a task of mteb .* STSBenchmark"),
        (published(benchmarks=("MTEB(eng, v3)",)), r"mteb has no 'MTEB\(eng, v3\)'.* MTEB\(eng, v2\)"),
        (published("SciFact", benchmarks=("MTEB(eng, v2)",)), r"SciFact is in none of \['MTEB\(eng, v2\)'\]"),
        (published("STS22", STS22=["en", "xx"]), "STS22 has no xx"),
        (published("STS22", STS71=["en-en"]), r"suite\.subsets: STS71 is not a task of mteb .* STS17"),
        (published("CIFAR10"), "CIFAR10: takes image"),
        (published("RuSciBenchYearPublRegression"), "type Regression is not measured"),
    ],
)
def test_unknown_names_are_refused_with_suggestions(fetch, suite, words):
    with pytest.raises(InputError, match=words):
        fetch(suite)


def test_the_command_honours_the_hubs_variables(hub, root, tmp_path):
    """HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE in the environment, as a user has them."""
    overrides = ["suite=mteb_core", "suite.tasks=[STSBenchmark]"]
    (tmp_path / "params.yaml").write_bytes(compose.compose(overrides, root / "conf"))

    def command(**variables: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), **variables}
        call = [sys.executable, "-m", "stages.data"]
        return subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    cold = command(HF_HUB_OFFLINE="1")
    assert (cold.returncode, "Traceback" in cold.stderr) == (2, False), cold.stderr
    done = command(HF_HUB_OFFLINE="0")
    assert done.returncode == 0, done.stderr
    assert "data: tasks: 1/1" in done.stderr
    assert records(tmp_path / "data")["STSBenchmark"]["revision"] == STSB_REVISION


def test_suites_name_what_mteb_has(root):
    full, core = (
        config.parse(yaml.safe_load(compose.compose([f"suite={name}"], root / "conf")), "conf/").suite
        for name in ("mteb_full", "mteb_core")
    )
    by_benchmark, by_name = ({task.name: task for task in selection.select_published(suite)} for suite in (full, core))
    assert len(by_benchmark) > 150
    assert len(by_benchmark["MassiveIntentClassification"].subsets) > 40, "the union of what two benchmarks ask for"
    assert set(by_name) == set(core.tasks)
    assert by_name["STS22"].subsets == ("en", "fr")
    types = {"STS", "Classification", "Clustering", "Retrieval", "Reranking", "BitextMining"}
    assert {task.task.metadata.type for task in by_name.values()} == types
    assert {len(task.task.metadata.dataset["revision"]) for task in [*by_benchmark.values(), *by_name.values()]} == {40}
