"""Texts that tokenizers, prompts and truncation go wrong on; every variant is compared with the base model on them."""

import json
from pathlib import Path

PATH = Path(__file__).with_name("hard_texts.json")


def read_texts() -> list[str]:
    """Return the texts of hard_texts.json in order; the first one is empty."""
    texts: list[str] = json.loads(PATH.read_text(encoding="utf-8"))
    return texts
