"""add-model against a hub: the commit, pins without weights, gated models, refusals."""

import json
import shutil
from collections.abc import Callable, Iterator

import pytest
from embed_foundry import manifest
from embed_foundry.errors import FoundryError, RemoteError

from stages import download
from stages.commands import add_model
from stages.common.sources.hub import Connection
from support.added_models import as_gemma, read
from support.hub_server import Fault, HubServer
from support.saved_models import WEIGHTS

COMMIT = "89abcdef0123456789abcdef0123456789abcdef"


@pytest.fixture
def served(named, tmp_path) -> Iterator[HubServer]:
    """Return a hub that serves a tiny BERT with what repositories hold beside a model."""
    folder = shutil.copytree(named("bert"), tmp_path / "served")
    as_gemma(folder)
    files = {name: (folder / name).read_bytes() for name in manifest.files_of(folder)}
    files |= {"train_script.py": b"raise SystemExit", "pytorch_model.bin": b"\x80\x04.", "onnx/model.onnx": b"onnx"}
    with HubServer("Some-One/Tiny.BERT-v1.5", COMMIT, files) as server:
        yield server


@pytest.fixture
def add(served, conf, tmp_path) -> Callable[..., add_model.AddedModel]:
    """Return a function that runs the command against the server."""

    def run(**options: object) -> add_model.AddedModel:
        connection = Connection(served.url, tmp_path / "cache", "hf_secret", False, 2, 0.01, 1, 1)
        return add_model.run(served.repo, conf=conf, connection=connection, **options)

    return run


@pytest.mark.parametrize("revision", [None, "v1"])
def test_a_repositorys_commit_is_resolved_and_its_weights_stay_there(served, add, tmp_path, revision):
    served.branches = {"main", "v1"}
    model = read(add(revision=revision))
    assert (model.name, model.source, model.repo) == ("tiny_bert_v15", "hub", served.repo)
    assert (model.revision, model.package, model.folder) == (COMMIT, None, None)
    assert model.matryoshka == [64, 48, 32, 16]
    assert set(model.files) == {name for name in served.files if name.endswith((".json", ".safetensors"))}
    weights = [hit for hit in served.hits if hit.name == WEIGHTS]
    assert [hit.range for hit in weights if hit.endpoint == "file"] == ["bytes=0-100000"]
    assert {hit.authorization for hit in weights} == {None}  # the store's
    assert not [hit for hit in served.hits if hit.name in {"train_script.py", "pytorch_model.bin", "onnx/model.onnx"}]
    connection = Connection(served.url, tmp_path / "cache", None, False, 2, 0.01, 1, 1)
    assert download.run(model, tmp_path / "base", connection).absent == ()


def test_a_repository_and_its_folder_have_the_same_pins(served, add, conf, tmp_path):
    hub, folder = read(add()), read(add_model.run(str(tmp_path / "served"), conf=conf))
    assert hub.model_dump(exclude={"name", "source", "repo", "revision", "folder"}) == folder.model_dump(
        exclude={"name", "source", "repo", "revision", "folder"}
    )


def test_shards_are_pinned_each(served, add):
    data = served.files.pop(WEIGHTS)
    served.files["model-00001-of-00001.safetensors"] = data
    served.files["model.safetensors.index.json"] = json.dumps(
        {"metadata": {}, "weight_map": {"embeddings.LayerNorm.bias": "model-00001-of-00001.safetensors"}}
    ).encode()
    assert {"model-00001-of-00001.safetensors", "model.safetensors.index.json"} < set(read(add()).files)


def test_a_gated_repository_is_marked_or_refused(served, add):
    served.gated = "manual"
    assert read(add()).license.gated
    served.faults = [Fault("api", status=401, headers={"X-Error-Code": "GatedRepo"})]
    with pytest.raises(RemoteError, match=r"gated \(HTTP 401\), asked with HF_TOKEN. Accept the licence at"):
        add(name="other")


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"revision": "v9"}, "no such revision .HTTP 404."), ({"repo": "some/other"}, "no such repository .HTTP 404.")],
)
def test_the_hubs_refusals_say_what_to_correct(served, conf, tmp_path, options, reason):
    connection = Connection(served.url, tmp_path / "cache", None, False, 1, 0.01, 1, 1)
    with pytest.raises(RemoteError, match=reason) as caught:
        add_model.run(options.get("repo", served.repo), options.get("revision"), conf=conf, connection=connection)
    assert isinstance(caught.value, FoundryError)
    assert caught.value.code == 5
