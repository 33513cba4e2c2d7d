"""add-model: conf/model/NAME.yaml from a repository's or folder's files, without weights; what it writes, downloads."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from embed_foundry import manifest
from embed_foundry.errors import FoundryError, InputError, RemoteError

from stages import download
from stages.commands import add_model, compose
from stages.common import config
from stages.common.sources.hub import Connection
from support import architectures
from support.hub_server import Fault, HubServer

COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
WEIGHTS, SETTINGS = "model.safetensors", "config_sentence_transformers.json"
CARD = """---
license: apache-2.0
language: [en, de]
---
# Tiny
```json
{"loss": "MultipleNegativesRankingLoss", "matryoshka_dims": [48, 32, 16]}
```
"""
Change = Callable[[Path], object]


@pytest.fixture(scope="session")
def saved(tmp_path_factory) -> Callable[..., Path]:
    """Return a function that returns the folder of a tiny architecture, saved by sentence-transformers."""
    folders: dict[tuple[str, int | None], Path] = {}

    def save(name: str, dimensions: int | None = None) -> Path:
        if (name, dimensions) not in folders:
            folder = tmp_path_factory.mktemp("saved") / f"Tiny-{name}-v1.5"
            folders[name, dimensions] = architectures.build(name, folder, dimensions=dimensions)
        return folders[name, dimensions]

    return save


@pytest.fixture
def bert(saved, tmp_path) -> Path:
    """Return a copy of a tiny BERT, to be changed."""
    return shutil.copytree(saved("bert"), tmp_path / "Tiny-bert-v1.5")


@pytest.fixture
def conf(root, tmp_path) -> Path:
    """Return a copy of conf/."""
    return shutil.copytree(root / "conf", tmp_path / "conf")


def edit(name: str, **changes: object) -> Change:
    """Return a function that sets keys of a model's JSON file."""

    def change(folder: Path) -> None:
        path = folder / name
        content = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(content | changes))

    return change


def edit_module(number: int, **changes: object) -> Change:
    """Return a function that sets keys of one module in modules.json."""

    def change(folder: Path) -> None:
        modules = json.loads((folder / "modules.json").read_text())
        modules[number] |= changes
        (folder / "modules.json").write_text(json.dumps(modules))

    return change


def write(name: str, text: str) -> Change:
    return lambda folder: (folder / name).write_text(text)


def remove(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def as_pickle(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")


def as_2019(folder: Path) -> None:
    """Move the transformer where sentence-transformers kept it before 2.0."""
    (folder / "0_Transformer").mkdir()
    for path in [path for path in folder.iterdir() if path.is_file()]:
        if path.name not in ("modules.json", SETTINGS):
            path.rename(folder / "0_Transformer" / path.name)
    edit_module(0, path="0_Transformer")(folder)


def keep_only_vocabulary(folder: Path) -> None:
    """Write the tokenizer as transformers did until 2020: vocab.txt, a token a line."""
    ids = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    write("vocab.txt", "\n".join(sorted(ids, key=ids.__getitem__)))(folder)
    write("tokenizer_config.json", json.dumps({"tokenizer_class": "BertTokenizer"}))(folder)
    remove("tokenizer.json")(folder)


def as_gemma(folder: Path) -> None:
    """Give a model EmbeddingGemma's prompts and a card."""
    prompts = {"query": "task: search result | query: ", "document": "title: none | text: "}
    edit(SETTINGS, prompts={**prompts, "STS": "task: sentence similarity | query: ", "Summary-x": "task: x"})(folder)
    write("README.md", CARD)(folder)


def read(added: add_model.AddedModel) -> config.Model:
    """Return the model that the command wrote, as the build reads it: composed."""
    composed = compose.compose([f"model={added.path.stem}"], added.path.parent.parent)
    return config.parse(yaml.safe_load(composed), "conf/").model


# name -> architecture, width of a Dense head, change, what the YAML must say
MODELS: dict[str, tuple[str, int | None, Change, dict[str, object]]] = {
    **{
        name: (name, None, lambda _: None, {"dimensions": 64, "max_tokens": 256, "matryoshka": [64], "prompts": {}})
        for name in architectures.ARCHITECTURES
    },
    "positions from row 2": (
        "xlm-roberta",
        None,
        # 258 rows, as 514 of XLM-R: two fewer tokens, whatever the model's own limit says.
        lambda folder: (
            edit("config.json", pad_token_id=1)(folder),
            edit("sentence_bert_config.json", max_seq_length=258)(folder),
            edit("tokenizer_config.json", model_max_length=258)(folder),
        ),
        {"max_tokens": 256},
    ),
    "lengths in config.json": (
        "qwen3",
        None,
        edit("config.json", matryoshka_dimensions=[16, 64, 32]),
        {"matryoshka": [64, 32, 16]},
    ),
    "embeddinggemma": (
        "gemma3_text",
        48,
        as_gemma,
        {
            "dimensions": 48,
            "matryoshka": [48, 32, 16],
            "license": config.License(
                name="Apache-2.0", url="https://www.apache.org/licenses/LICENSE-2.0", gated=False
            ),
            "prompts": {
                "query": "task: search result | query: ",
                "document": "title: none | text: ",
                "STS": "task: sentence similarity | query: ",
            },
        },
    ),
    "before 2.0": ("bert", None, as_2019, {"dimensions": 64, "max_tokens": 256}),
    "a vocabulary only": ("bert", None, keep_only_vocabulary, {"dimensions": 64, "max_tokens": 256}),
    "a passage": (
        "bert",
        None,
        edit(SETTINGS, prompts={"query": "query: ", "passage": "passage: \n"}),
        {"prompts": {"query": "query: ", "document": "passage: \n"}},
    ),
}


@pytest.mark.parametrize("case", MODELS)
def test_what_it_writes_for_a_folder_is_what_download_takes(saved, conf, tmp_path, case):
    architecture, dimensions, change, expected = MODELS[case]
    folder = shutil.copytree(saved(architecture, dimensions), tmp_path / "mine")
    change(folder)
    added = add_model.run(str(folder), conf=conf)
    model = read(added)
    assert (added.path, added.written) == (conf / "model" / "mine.yaml", True)
    assert (model.name, model.source, model.folder) == ("mine", "folder", str(folder))
    assert {name: getattr(model, name) for name in expected} == expected
    assert all(model.files.values())
    report = download.run(model, tmp_path / "base")
    assert report.absent == report.unverified == ()
    assert report.model.weights.parameters == model.parameters
    # Only the weights themselves tell which of them the files lack.
    assert [line for line in report.model.describe(model) if not line.startswith("  weights ")] == added.lines


@pytest.fixture
def served(saved, tmp_path) -> Iterator[HubServer]:
    """Return a hub that serves a tiny BERT with what repositories hold beside a model."""
    folder = shutil.copytree(saved("bert"), tmp_path / "served")
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


REFUSED: dict[str, tuple[Change, str]] = {
    "remote code": (
        edit("config.json", auto_map={"AutoModel": "modeling.MyModel"}),
        "config.json: unexpected code: the key 'auto_map'",
    ),
    "a module of its own": (edit_module(1, type="mine.Pooling"), "module type 'mine.Pooling', which is not"),
    "pickles only": (as_pickle, "pytorch_model.bin"),
    "a sparse model": (edit(SETTINGS, model_type="SparseEncoder"), "is a SparseEncoder, expected a SentenceTransf"),
    "CLIP": (edit_module(0, type="sentence_transformers.models.CLIPModel"), "has the module CLIPModel; expected Tr"),
    "a router": (edit_module(0, type="sentence_transformers.models.Router"), "has the module Router"),
    "asym": (edit_module(1, type="sentence_transformers.models.Asym"), "has the module Asym"),
    "an LSTM": (edit_module(1, type="sentence_transformers.models.LSTM"), "has the module LSTM"),
    "no tokenizer": (remove("tokenizer.json"), "has no tokenizer.json and no vocabulary"),
    "no modules": (remove("modules.json"), "has no modules.json, so it is no SentenceTransformer"),
    "no weights": (remove(WEIGHTS), f"has no {WEIGHTS}"),
    "broken modules": (write("modules.json", "{"), "modules.json: is not JSON"),
    "broken weights": (write(WEIGHTS, "x"), "safetensors"),
    "an adapter": (edit("adapter_config.json", peft_type="LORA"), "adapter_config.json: is an adapter"),
    "quantised": (edit("config.json", quantization_config={"quant_method": "gptq"}), "quantised already (gptq)"),
    "a prompt always": (edit(SETTINGS, prompts={"q": "q: "}, default_prompt_name="q"), "its default_prompt_name is"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_converted_is_refused_in_one_line_and_nothing_is_written(bert, conf, tmp_path, case):
    change, reason = REFUSED[case]
    change(bert)
    before = manifest.files_of(conf)
    served = {path.relative_to(bert).as_posix(): path.read_bytes() for path in bert.rglob("*") if path.is_file()}
    with HubServer("some/model", COMMIT, served) as server:
        connection = Connection(server.url, tmp_path / "cache", None, False, 1, 0.01, 1, 1)
        for origin in (str(bert), "some/model"):
            with pytest.raises(InputError) as caught:
                add_model.run(origin, conf=conf, connection=connection)
            assert caught.value.code == 2
            assert reason in str(caught.value)
            assert "\n" not in str(caught.value)
            assert Path(origin).name in str(caught.value)
            assert "add-model-" not in str(caught.value)  # the folder that it works in
    assert manifest.files_of(conf) == before


@pytest.mark.parametrize("name", ["Big", "1st", "a-b", "../x", "a.b", "null", "true", "", "x" * 65, "a b", "é"])
def test_an_unsafe_name_is_refused_before_anything_is_read(bert, conf, name):
    with pytest.raises(InputError, match=r"cannot name an option of conf/model\. Use small letters"):
        add_model.run(str(bert), name=name, conf=conf)


def test_an_option_is_never_overwritten_unless_it_is_the_same(bert, conf):
    first = add_model.run(str(bert), conf=conf)
    assert (first.path.name, first.written) == ("tiny_bert_v15.yaml", True)
    assert not add_model.run(str(bert), conf=conf).written
    before = (conf / "model" / "minilm.yaml").read_bytes()
    with pytest.raises(InputError, match=r"minilm.yaml: is there already and says something else; nothing was written"):
        add_model.run(str(bert), name="minilm", conf=conf)
    assert (conf / "model" / "minilm.yaml").read_bytes() == before


def test_what_does_not_compose_is_not_written(bert, conf):
    edit(SETTINGS, prompts={"query": "${nowhere}"})(bert)
    before = manifest.files_of(conf)
    with pytest.raises(InputError, match="nowhere"):
        add_model.run(str(bert), conf=conf)
    assert manifest.files_of(conf) == before


ORIGINS = {
    "./nowhere": "is neither a folder nor the name of a repository",
    "a/b/c": "is neither a folder nor the name of a repository",
}


@pytest.mark.parametrize("origin", ORIGINS)
def test_what_is_no_origin_is_refused(conf, origin):
    with pytest.raises(InputError, match=ORIGINS[origin]):
        add_model.run(origin, name="some", conf=conf)


def test_a_revision_of_a_folder_and_a_hub_that_is_offline_are_refused(bert, conf):
    with pytest.raises(InputError, match="a folder has no revisions"):
        add_model.run(str(bert), revision="main", conf=conf)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        add_model.run("some/model", conf=conf)


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


def test_every_value_has_its_comment(bert, conf):
    lines = add_model.run(str(bert), conf=conf).path.read_text().splitlines()
    for key in config.Model.model_fields:
        line = next(number for number, text in enumerate(lines) if text.startswith(f"{key}:"))
        assert key == "package" or lines[line - 1].startswith("#"), key
    assert max(map(len, lines)) <= 120


def test_prompts_that_mteb_never_asks_for_are_told(bert, conf):
    edit(SETTINGS, prompts={"s2p_query": "Instruct: find\nQuery: ", "query": ""})(bert)
    added = add_model.run(str(bert), conf=conf)
    assert read(added).prompts == {"query": ""}
    assert '#   s2p_query: "Instruct: find\\nQuery: "' in added.path.read_text()


def test_the_command_says_what_comes_next(console, bert, conf, tmp_path):
    result = console("add-model", bert, "--name", "my_bert", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "conf/model/my_bert.yaml: written; next: embed-foundry compose model=my_bert" in result.stdout
    refused = console("add-model", bert, "--name", "My-BERT", cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ")
    assert "Traceback" not in refused.stderr
