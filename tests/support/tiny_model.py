"""A base model of a few kilobytes in SentenceTransformer layout, of random weights, and its configuration."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from stages import download
from stages.common.config import Model

REPO, REVISION = "someone/tiny", "0123456789abcdef0123456789abcdef01234567"
MODULES = ("Transformer", "Pooling", "Dense", "Normalize")
ROWS, WIDTH, FEED_FORWARD, POSITIONS = 40, 8, 16, 16


def files(positions: int = POSITIONS) -> dict[str, bytes]:
    """Return the model's files: BERT, 8 dimensions after Pooling, 6 after Dense, so many positions."""
    modules = [
        {"idx": n, "name": str(n), "path": f"{n}_{kind}" if n else "", "type": f"sentence_transformers.models.{kind}"}
        for n, kind in enumerate(MODULES)
    ]
    bert = {"hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": FEED_FORWARD}
    tokenizer = Tokenizer(WordLevel({"[PAD]": 0, "[UNK]": 1, "auto_map": 2}, "[UNK]"))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "tokenizer_class": "PreTrainedTokenizerFast"}
    return {
        "config.json": dump(
            {"model_type": "bert", "vocab_size": ROWS, "max_position_embeddings": positions, "pad_token_id": 0, **bert}
        ),
        "modules.json": dump(modules),
        "1_Pooling/config.json": dump({"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True}),
        "2_Dense/config.json": dump(
            {
                "in_features": WIDTH,
                "out_features": 6,
                "bias": False,
                "activation_function": "torch.nn.modules.linear.Identity",
            }
        ),
        "2_Dense/model.safetensors": save({"linear.weight": _random(6, WIDTH)}),
        "model.safetensors": weights(positions=positions),
        "tokenizer.json": tokenizer.to_str().encode(),
        "tokenizer_config.json": dump({"model_max_length": positions, **special}),
    }


def weights(seed: int = 0, *, without: str = "?", positions: int = POSITIONS, **others: NDArray[np.float32]) -> bytes:
    """Return the transformer's weights: a BERT of one layer.

    Args:
        seed: of their random values.
        without: tensors to leave out, by the start of their names.
        positions: rows of the table of positions.
        others: tensors to add or to replace.
    """
    layer, square = "encoder.layer.0", (WIDTH, WIDTH)
    shapes = {
        "embeddings.word_embeddings": (ROWS, WIDTH),
        "embeddings.position_embeddings": (positions, WIDTH),
        "embeddings.token_type_embeddings": (2, WIDTH),
        "embeddings.LayerNorm": (WIDTH,),
        **{f"{layer}.attention.self.{part}": square for part in ("query", "key", "value")},
        f"{layer}.attention.output.dense": square,
        f"{layer}.attention.output.LayerNorm": (WIDTH,),
        f"{layer}.intermediate.dense": (FEED_FORWARD, WIDTH),
        f"{layer}.output.dense": (WIDTH, FEED_FORWARD),
        f"{layer}.output.LayerNorm": (WIDTH,),
        "pooler.dense": square,
    }
    tensors = {f"{name}.weight": _random(*shape, seed=seed) for name, shape in shapes.items()}
    biases = {name: shape[0] for name, shape in shapes.items() if not name.endswith("_embeddings")}
    tensors |= {f"{name}.bias": np.zeros(size, np.float32) for name, size in biases.items()} | others
    return save({name: tensor for name, tensor in tensors.items() if not name.startswith(without)})


def _random(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


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
