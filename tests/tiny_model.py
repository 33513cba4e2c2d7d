"""A base model of a few kilobytes in SentenceTransformer layout, and the configuration that describes it."""

import hashlib
import json
from typing import Any

import numpy as np
from safetensors.numpy import save
from stages.common.config import Model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

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


def dump(value: Any) -> bytes:
    return json.dumps(value).encode()
