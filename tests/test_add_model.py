"""add-model: conf/model/NAME.yaml from a repository's or folder's files, without weights; what it writes, downloads."""

import shutil
from pathlib import Path

import pytest
from embed_foundry import manifest
from embed_foundry.errors import InputError

from stages import download
from stages.commands import add_model
from stages.common import config
from stages.common.sources.hub import Connection
from support import architectures
from support.added_models import as_gemma, read
from support.hub_server import HubServer
from support.saved_models import (
    SETTINGS,
    WEIGHTS,
    Change,
    as_pickle,
    edit,
    edit_module,
    keep_only_vocabulary,
    move_transformer,
    remove,
    write,
)

COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
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
    "before 2.0": ("bert", None, move_transformer, {"dimensions": 64, "max_tokens": 256}),
    "a vocabulary only": ("bert", None, keep_only_vocabulary, {"dimensions": 64, "max_tokens": 256}),
    "a passage": (
        "bert",
        None,
        edit(SETTINGS, prompts={"query": "query: ", "passage": "passage: \n"}),
        {"prompts": {"query": "query: ", "document": "passage: \n"}},
    ),
}


@pytest.mark.parametrize("case", MODELS)
def test_what_it_writes_for_a_folder_is_what_download_takes(named, conf, tmp_path, case):
    architecture, dimensions, change, expected = MODELS[case]
    folder = shutil.copytree(named(architecture, dimensions), tmp_path / "mine")
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
