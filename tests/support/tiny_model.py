"""A base model of a few kilobytes in SentenceTransformer layout, and the configuration that describes it."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from stages import download
from stages.common.config import Model

REPO, REVISION = "someone/tiny", "0123456789abcdef0123456789abcdef01234567"
MODULES = ("Transformer", "Pooling", "Dense", "Normalize")


def files() -> dict[str, bytes]:
    """Return the model's files: 8 dimensions after Pooling, 6 after Dense, 16 positions."""
    modules = [
        {"idx": n, "name": str(n), "path": f"{n}_{kind}" if n else "", "type": f"sentence_transformers.models.{kind}"}
        for n, kind in enumerate(MODULES)
    ]
    table = np.arange(320, dtype=np.float32).reshape(40, 8)
    return {
        "config.json": dump({"model_type": "bert", "hidden_size": 8, "max_position_embeddings": 16}),
        "modules.json": dump(modules),
        "1_Pooling/config.json": dump({"word_embedding_dimension": 8, "pooling_mode_mean_tokens": True}),
        "2_Dense/config.json": dump(
            {"in_features": 8, "out_features": 6, "activation_function": "torch.nn.modules.linear.Identity"}
        ),
        "2_Dense/model.safetensors": save({"linear.weight": np.ones((6, 8), np.float32)}),
        "model.safetensors": save({"embeddings": table}),
        "tokenizer.json": Tokenizer(WordLevel({"[UNK]": 0, "auto_map": 1}, "[UNK]")).to_str().encode(),
        "tokenizer_config.json": dump({"model_max_length": 16}),
    }


def config(contents: dict[str, bytes] | None = None, *, pinned: bool = True, **changes: Any) -> Model:
    """Return the configuration of a model of these contents, with or without pins.

    Args:
        contents: the files.
        pinned: whether model.files holds their sha256.
        changes: other values to set.
    """
    contents = contents or files()
    values: dict[str, Any] = {
        "name": "tiny",
        "source": "hub",
        "repo": REPO,
        "revision": REVISION,
        "package": None,
        "folder": None,
        "files": {name: hashlib.sha256(data).hexdigest() if pinned else None for name, data in contents.items()},
        "license": {"name": "Terms of Tiny", "url": "https://example.org/terms", "gated": False},
        "dimensions": 6,
        "matryoshka": [6],
        "max_tokens": 16,
        "prompts": {},
    }
    return Model.model_validate(values | changes)


def write(folder: Path, contents: dict[str, bytes] | None = None) -> Path:
    """Write files under a folder, the model's own by default, and return the folder."""
    for name, data in (contents or files()).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def run_download(folder: Path, out: Path, *, pinned: bool = False, **changes: Any) -> download.DownloadReport:
    """Run the stage with source=folder."""
    return download.run(config(source="folder", folder=str(folder), pinned=pinned, **changes), out)


def edit_json(name: str, **changes: Any) -> bytes:
    """Return one of the model's JSON objects with keys changed."""
    return dump(json.loads(files()[name]) | changes)


def add_module(**entry: Any) -> bytes:
    """Return modules.json with one more module."""
    return dump([*json.loads(files()["modules.json"]), {"idx": 4, "name": "4", "path": "", **entry}])


def dump(value: Any) -> bytes:
    """Return JSON."""
    return json.dumps(value).encode()
