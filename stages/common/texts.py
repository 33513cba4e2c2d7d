"""Fifty short texts, 25 languages, code, signs and numbers among them: what conversions and bundles are probed with."""

from pathlib import Path

PATH = Path(__file__).with_name("texts.txt")


def texts() -> list[str]:
    """Return the lines of texts.txt in order; leading, trailing and inner white space is part of a text."""
    return [line for line in PATH.read_text(encoding="utf-8").split("\n") if line]
