"""A fine-tuning of a tiny Gemma3 on a few made-up questions and passages."""

import json

import yaml
from embed_foundry import manifest

from stages.commands import compose
from stages.common import config
from support import tiny_gemma

SUBJECTS = ["river", "engine", "bread", "violin", "planet", "carpet", "island", "pepper", "window", "battle", "winter"]
VERBS = ["moves", "holds", "breaks", "follows"]


def compose_settings(root, method="lora", **changes):
    """Return the configuration of a few small steps."""
    small = {"epochs": 3, "batch_size": 16, "mini_batch_size": 8, "eval_steps": 2, "max_tokens": 32} | {
        "learning_rate": 1e-2,
        "patience": 9,
        "data.source": "triplets",
        "data.path": "mine.jsonl",
        "data.dev": 0.2,
    }
    overrides = [f"finetune.{key}={json.dumps(value)}" for key, value in (small | changes).items()]
    return config.parse(yaml.safe_load(compose.compose([f"finetune={method}", *overrides], root / "conf")), "conf/")


def write_place(folder, tokenizer):
    """Write a tiny Gemma3, an empty suite and examples into a folder and return it."""
    # On a CPU, bitsandbytes needs rows that are multiples of 64.
    tiny_gemma.write(folder / "base", tokenizer, num_attention_heads=4, intermediate_size=128)
    return write_examples(folder)


def write_examples(folder):
    """Write an empty suite and examples into a folder and return it."""
    (folder / "data").mkdir()
    manifest.write(folder / "data", {"stage": "data"})
    rows = [
        {"anchor": f"what {verb} the {subject}", "positive": f"the {subject} {verb} slowly, as a {subject} does"}
        for subject in [*SUBJECTS, "garden"]
        for verb in VERBS
    ]
    (folder / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def model(params):
    return params.model.model_copy(
        update={"repo": "someone/tiny", "dimensions": 48, "matryoshka": [48, 24], "max_tokens": 64}
    )


def files(folder):
    return {name: (folder / name).read_bytes() for name in manifest.files_of(folder)}
