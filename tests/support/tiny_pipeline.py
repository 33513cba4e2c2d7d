"""A build of every stage that takes seconds: a model of kilobytes, one task of few rows, one variant."""

import json
from pathlib import Path

import yaml
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Split

from stages.commands import compose
from support import tiny_model

ROOT = Path(__file__).resolve().parent.parent.parent
# Every stage in the order of dvc.yaml: what runs it, and what it writes.
STAGES = {
    "machine": ("stages.machine", "machine.json"),
    "download": ("stages.download", "models/base"),
    "data": ("stages.data", "data"),
    "finetune": ("stages.finetune lora", "finetune/lora"),
    "convert": ("stages.convert fp32", "variants/fp32"),
    "catalog": ("stages.catalog", "catalog"),
    "quality": ("stages.quality", "quality"),
    "latency": ("stages.latency", "latency"),
    "gate": ("stages.gate", "gate"),
    "report": ("stages.report", "report"),
    "bundle": ("stages.bundle", "release"),
}
FINETUNE = {"epochs": 1, "batch_size": 8, "mini_batch_size": 8, "eval_steps": 2, "max_tokens": 16, "patience": 9}
# A token is a letter here, and latency's first text has 30.
POSITIONS = 64
LATENCY = {"lengths": [8], "rounds": 6, "tight": 1, "budget_s": 1, "gap_ms": 0, "batch_size": 2, "batch_length": 8}


# Every text of letters has tokens of its own, so that no two have one vector.
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
WORDS = [f"word {letter}{LETTERS[-number]}" for number, letter in enumerate(LETTERS[:25])]


def _write_tokenizer() -> bytes:
    names = ["[PAD]", "[UNK]", *LETTERS]
    tokenizer = Tokenizer(WordLevel({name: number for number, name in enumerate(names)}, "[UNK]"))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = Split(Regex("."), "isolated")
    return tokenizer.to_str().encode()


def write(folder: Path) -> Path:
    """Write params.yaml and what it names into a folder, in which every stage then runs; return the folder."""
    contents = tiny_model.files(POSITIONS) | {"tokenizer.json": _write_tokenizer()}
    tiny_model.write(folder / "source", contents)
    words = WORDS[:20]
    rows = [
        {"sentence1": f"{word} is {WORDS[-1 - number]}", "sentence2": f"{word} that", "score": number % 5}
        for number, word in enumerate(words)
    ]
    task = folder / "suite" / "STSBenchmark"
    task.mkdir(parents=True)
    (task / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    triplets = [
        {"anchor": f"what is {word} {other}", "positive": f"{word} {other} is that"}
        for word in words[:8]
        for other in words[8:16]
    ]
    (folder / "triplets.jsonl").write_text("".join(json.dumps(row) + "\n" for row in triplets))
    params = yaml.safe_load(
        compose.compose(
            ["finetune=lora", "variant=[fp32]", "suite=airgapped", f"suite.data={folder / 'suite'}"], ROOT / "conf"
        )
    )
    changes = {"source": "folder", "folder": str(folder / "source"), "max_tokens": POSITIONS}
    params["model"] = tiny_model.config(contents, pinned=False, **changes).model_dump(mode="json")
    params["suite"] |= {"data": str(folder / "suite"), "tasks": ["STSBenchmark"]}
    params["target"] |= {"candidates": ["fp32"], "limits": {"default": {"size_mb_max": 1.0}}}
    params["latency"] |= LATENCY | {"batch_rounds": 6, "cold_starts": 1}
    params["finetune"] |= FINETUNE
    params["finetune"]["data"] |= {
        "source": "triplets",
        "path": str(folder / "triplets.jsonl"),
        "dev": 0.2,
        "held_out": 0.2,
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    for name in ("LICENSE", "pyproject.toml", "requirements.lock", "stages"):
        (folder / name).symlink_to(ROOT / name)
    return folder
