"""Tiny models as sentence-transformers saves them, and changes of their files: what users' models differ by."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages import download
from stages.common.sources.base_model.loaded import LoadedModel
from support import architectures, tiny_model

WEIGHTS, SETTINGS, CONFIG = "model.safetensors", "config_sentence_transformers.json", "config.json"
BERT_SETTINGS = "sentence_bert_config.json"
Change = Callable[[Path], object]


@pytest.fixture(scope="session")
def saved(tmp_path_factory) -> Callable[..., Path]:
    """Return a function that returns the folder of a tiny architecture, saved by sentence-transformers."""
    folders: dict[tuple[str, int | None], Path] = {}

    def save(name: str = "bert", dimensions: int | None = None) -> Path:
        if (name, dimensions) not in folders:
            folder = tmp_path_factory.mktemp("saved") / name
            folders[name, dimensions] = architectures.build(name, folder, dimensions=dimensions)
        return folders[name, dimensions]

    return save


@pytest.fixture
def copy(saved, tmp_path) -> Callable[..., Path]:
    """Return a function that returns a copy of such a folder, to be changed."""
    return lambda name="bert": shutil.copytree(saved(name), tmp_path / name)


def read(folder: Path, **changes: Any) -> LoadedModel:
    """Run the stage on a folder and return what it says the model is."""
    return run(folder, **changes).model


def run(folder: Path, **changes: Any) -> download.DownloadReport:
    values = {"dimensions": architectures.WIDTH, "matryoshka": [architectures.WIDTH], "max_tokens": 64} | changes
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    out = folder.with_name(f"{folder.name}.base")
    try:
        return tiny_model.run_download(folder, out, files=dict.fromkeys(files), **values)
    finally:
        shutil.rmtree(out, ignore_errors=True)


def edit(name: str, **changes: Any) -> Change:
    """Return a function that sets keys of a model's JSON file."""

    def change(folder: Path) -> None:
        path = folder / name
        content = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(content | changes))

    return change


def edit_weights(change: Callable[[dict], object], name: str = WEIGHTS) -> Change:
    """Return a function that changes a model's tensors."""

    def apply(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / name)
        change(tensors)
        save_file(tensors, folder / name, {"format": "pt"})

    return apply


def save_modules(*others: Any, **settings: Any) -> Change:
    """Return a function that saves the folder's transformer again with other modules behind it."""

    def change(folder: Path) -> None:
        from sentence_transformers import SentenceTransformer

        transformer = SentenceTransformer(str(folder), device="cpu")[0]
        shutil.rmtree(folder)
        model = SentenceTransformer(modules=[transformer, *others], device="cpu", **settings)
        model.save(str(folder), create_model_card=False)

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


def move_transformer(folder: Path) -> None:
    """Move the transformer where sentence-transformers kept it before 2.0."""
    (folder / "0_Transformer").mkdir()
    for path in [path for path in folder.iterdir() if path.is_file()]:
        if path.name not in ("modules.json", SETTINGS):
            path.rename(folder / "0_Transformer" / path.name)
    edit_module(0, path="0_Transformer")(folder)


def nan(tensors: dict) -> None:
    tensors["embeddings.word_embeddings.weight"][3, 4] = float("nan")


def rename(change: Callable[[str], str]) -> Change:
    """Return a function that renames a model's tensors."""

    def apply(tensors: dict) -> None:
        renamed = {change(name): tensor for name, tensor in tensors.items()}
        tensors.clear()
        tensors.update(renamed)

    return edit_weights(apply)


def keep_only_vocabulary(folder: Path) -> None:
    """Write the tokenizer as transformers did until 2020: vocab.txt, a token a line."""
    path = folder / "tokenizer.json"
    ids = json.loads(path.read_text())["model"]["vocab"]
    (folder / "vocab.txt").write_text("\n".join(sorted(ids, key=ids.__getitem__)))
    path.unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))


def add_tokens(folder: Path, *, ordinary: bool) -> None:
    """Add a token beyond the last row of the table: to the vocabulary, or as an added token."""
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    if ordinary:
        tokenizer["model"]["vocab"]["zzzz"] = 700
    else:
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False) | {"special": True}
        tokenizer["added_tokens"].append({"id": 700, "content": "<image>", **flags})
    path.write_text(json.dumps(tokenizer))
