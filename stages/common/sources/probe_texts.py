"""Fifty short texts that conversions and bundles are compared on: 25 languages, code, signs and numbers among them."""

from pathlib import Path

PATH = Path(__file__).with_name("probe_texts.txt")
# Nine tokens in both default models: at 2048 tokens, all but 265 rows of a sliding layer see padding only.
SHORT = "The cat sat on the mat."


def read_texts() -> list[str]:
    """Return the lines of probe_texts.txt in order; leading, trailing and inner white space is part of a text."""
    return [line for line in PATH.read_text(encoding="utf-8").split("\n") if line]
