"""download from packages and folders: upstream's bytes, of the configured model, or a refusal with the next step."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from embed_foundry import manifest
from embed_foundry.errors import FoundryError, InputError, IntegrityError

from stages import download
from stages.common import config
from support import tiny_model
from support.tiny_model import add_module, dump, edit_json, run_download, write

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A user's folder with the tiny model."""
    return tiny_model.write(tmp_path / "mine")


def test_package_gives_the_pinned_bytes_without_running_the_package(tmp_path):
    model = config.load(Path(download.__file__).parent.parent / "params.yaml").model
    report = download.run(model, tmp_path / "base")
    assert report.source == "package"
    assert report.files == model.files
    assert manifest.verify(tmp_path / "base").parameters["unverified"] == []
    assert model.package not in sys.modules
    upstream = Path(importlib.util.find_spec(model.package).submodule_search_locations[0], "model")
    for name in model.files:
        assert (tmp_path / "base" / name).read_bytes() == (upstream / name).read_bytes()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An importable package that carries the tiny model, and that ends the test if it is ever imported."""
    code = b"raise AssertionError('imported')"
    write(tmp_path / "tiny_package", {"__init__.py": code, "model/helper.py": code})
    monkeypatch.syspath_prepend(tmp_path)
    return write(tmp_path / "tiny_package" / "model")


def test_package_files_that_are_not_configured_are_never_taken(package, tmp_path):
    download.run(tiny_model.config(source="package", package="tiny_package"), tmp_path / "base")
    assert manifest.files_of(tmp_path / "base") == sorted(tiny_model.files())


def test_code_in_a_package_is_refused_too(package, tmp_path):
    contents = tiny_model.files() | {"config.json": edit_json("config.json", auto_map={"AutoModel": "modeling.Mine"})}
    write(package, contents)
    with pytest.raises(IntegrityError, match=r"config.json: unexpected code: the key 'auto_map'"):
        download.run(tiny_model.config(contents, source="package", package="tiny_package"), tmp_path / "base")


def test_flipped_bit_in_a_package_is_refused_and_the_previous_output_stays(package, tmp_path):
    model = tiny_model.config(source="package", package="tiny_package")
    download.run(model, tmp_path / "base")
    before = manifest.verify(tmp_path / "base")
    data = bytearray((package / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (package / WEIGHTS).write_bytes(data)
    with pytest.raises(IntegrityError, match=rf"{WEIGHTS}: has sha256 .* model.files pins"):
        download.run(model, tmp_path / "base")
    assert manifest.verify(tmp_path / "base") == before


def test_package_that_is_absent_or_incomplete_is_an_input_error(package, tmp_path):
    with pytest.raises(InputError, match="'no_such_package' is not an installed package"):
        download.run(tiny_model.config(source="package", package="no_such_package"), tmp_path / "base")
    (package / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"tiny_package: has no model/tokenizer.json"):
        download.run(tiny_model.config(source="package", package="tiny_package"), tmp_path / "base")


def test_every_source_gives_the_same_folder(package, folder, tmp_path):
    download.run(tiny_model.config(source="package", package="tiny_package"), tmp_path / "a")
    run_download(folder, tmp_path / "b", pinned=True)
    assert (tmp_path / "a/manifest.json").read_bytes() == (tmp_path / "b/manifest.json").read_bytes()


def test_folder_without_pins_is_taken_and_recorded_as_unverified(folder, tmp_path):
    write(folder, {"README.md": b"mine"})
    report = run_download(folder, tmp_path / "base", files=dict.fromkeys([*tiny_model.files(), "vocab.txt"]))
    assert report.unverified == tuple(sorted(tiny_model.files()))
    assert report.absent == ("vocab.txt",)
    assert manifest.files_of(tmp_path / "base") == sorted(tiny_model.files())
    assert manifest.verify(tmp_path / "base").parameters["unverified"] == list(report.unverified)
    assert str(folder) not in (tmp_path / "base/manifest.json").read_text()


@pytest.mark.parametrize("path", ["nowhere", "empty"])
def test_folder_that_is_absent_or_empty_is_an_input_error(tmp_path, path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=f"model.folder .*{path}"):
        run_download(tmp_path / path, tmp_path / "base")


# Rust's slice of a merge's second half, shorter than the prefix that it should begin with.
PANICS = json.dumps(
    {"type": "BPE", "vocab": {"a": 0, "": 1}, "merges": [["a", ""]], "continuing_subword_prefix": "__"}
).encode()
MISFITS: dict[str, tuple[dict, dict, type[FoundryError], str]] = {
    "dimension": ({"dimensions": 8, "matryoshka": [8]}, {}, InputError, "model.dimensions is 8, .* length 6"),
    "tokens": ({"max_tokens": 17}, {}, InputError, "model.max_tokens is 17, .* positions for 16 tokens"),
    "no modules": ({}, {"modules.json": None}, IntegrityError, "modules.json: missing"),
    "no weights": ({}, {WEIGHTS: None}, IntegrityError, f"weights {WEIGHTS} are missing"),
    "no dense weights": ({}, {"2_Dense/model.safetensors": None}, IntegrityError, "2_Dense/model.safetensors: missing"),
    "no tokenizer": ({}, {"tokenizer.json": None}, InputError, "cannot load it"),
    "bad tokenizer": ({}, {"tokenizer.json": b"{}"}, IntegrityError, "tokenizer.json: does not load"),
    "tokenizer that panics": ({}, {"tokenizer.json": b'{"model": ' + PANICS + b"}"}, IntegrityError, "does not load"),
    "bad json": ({}, {"config.json": b"{"}, IntegrityError, "config.json: is not JSON"),
    "json list": ({}, {"config.json": b"[]"}, IntegrityError, "config.json: expected a JSON object"),
    "module path": ({}, {"modules.json": add_module(path="../x", type="sentence_transformers.models.Normalize")},
                    IntegrityError, "leaves the model folder"),
    "module widths": ({}, {"2_Dense/config.json": edit_json("2_Dense/config.json", in_features=9)},
                      InputError, "cannot load it .*size mismatch"),
    "shards": ({}, {"model.safetensors.index.json": dump({"weight_map": {"a": "../../x.safetensors"}})},
               IntegrityError, "x.safetensors are missing"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISFITS)
def test_files_that_are_not_the_configured_model_are_refused(folder, tmp_path, case):
    settings, changes, error, expected = MISFITS[case]
    for name, data in changes.items():
        (folder / name).unlink() if data is None else write(folder, {name: data})
    files = dict.fromkeys([*tiny_model.files(), *changes])
    with pytest.raises(error, match=expected):
        run_download(folder, tmp_path / "base", files=files, **settings)
    assert not (tmp_path / "base").exists()


def test_folder_that_differs_from_a_pin_says_how_to_take_it_anyway(folder, tmp_path):
    write(folder, {WEIGHTS: tiny_model.weights(seed=1)})
    with pytest.raises(IntegrityError, match=f"{WEIGHTS}: has sha256 .* write null for its pin"):
        run_download(folder, tmp_path / "base", pinned=True)
    run_download(folder, tmp_path / "base")


def test_joined_pooling_modes_add_up(folder, tmp_path):
    write(folder, {"1_Pooling/config.json": dump({"embedding_dimension": 8, "pooling_mode": ["mean", "cls"]})})
    with pytest.raises(InputError, match=r"cannot run it .*16"):
        run_download(folder, tmp_path / "base")


@pytest.mark.parametrize(
    "name", ["../x.json", "/etc/x.json", "a/../x.json", "pytorch_model.bin", "modeling.py", "a\\b.json"]
)
def test_configuration_lists_data_files_inside_the_folder_only(name):
    with pytest.raises(ValueError, match=r"a file inside the model folder|other formats can carry code"):
        tiny_model.config(files={name: None})


@pytest.mark.parametrize("revision", ["main", "0123456", "to-be-set", "0" * 39 + "g", "A" * 40])
def test_revision_that_can_move_is_refused(revision):
    with pytest.raises(ValueError, match="40 hex digits of a commit"):
        tiny_model.config(revision=revision)
