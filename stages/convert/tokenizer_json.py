"""A tokenizer.json of Hugging Face tokenizers: what pruning must know of it, and the same file with fewer tokens."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from embed_foundry import manifest

from stages.common.sources.intake import read_object

# What SentencePiece writes for a space.
SPACE = "\u2581"
# The normalizer of tokenizers that write spaces so, and put none before a text's first word.
SPACE_NORMALIZER = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
# Such a tokenizer takes whole texts, although no token crosses a space. Split at spaces, words can be remembered; in
# lower case, with a space before the first one and single spaces between them, a word has the same tokens everywhere.
SPLIT_AT_SPACES = {
    "normalizer": {
        "type": "Sequence",
        "normalizers": [
            {"type": "Lowercase"},
            {"type": "Replace", "pattern": {"Regex": "^ +| +$"}, "content": ""},
            {"type": "Replace", "pattern": {"Regex": " +"}, "content": SPACE},
            {"type": "Prepend", "prepend": SPACE},
        ],
    },
    "pre_tokenizer": {
        "type": "Split",
        "pattern": {"String": SPACE},
        "behavior": "MergedWithNext",
        "invert": False,
    },
}
STRIP_FIRST_SPACE = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
# Parts that a pruned tokenizer has no use for.
REMOVED: dict[str, object] = {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
# A byte as SentencePiece writes it.
BYTE = re.compile(r"<0x[0-9A-F]{2}>")


@dataclass(frozen=True)
class TokenizerJson:
    """The object in a tokenizer.json, whose layout is the library's.

    Attributes:
        content: the object.
    """

    content: dict[str, Any]

    @classmethod
    def load(cls, path: Path) -> "TokenizerJson":
        """Read a file.

        Raises:
            IntegrityError: missing, not JSON, or not an object.
        """
        return cls(read_object(path))

    @property
    def algorithm(self) -> str:
        """The type of its model, such as "BPE", "Unigram" or "WordPiece"."""
        return str(self.content["model"].get("type"))

    @cached_property
    def ids(self) -> dict[str, int]:
        """Token -> id."""
        vocabulary = self.content["model"]["vocab"]
        if isinstance(vocabulary, dict):
            return dict(vocabulary)
        return {token: number for number, (token, _) in enumerate(vocabulary)}

    @property
    def special_tokens(self) -> set[str]:
        """Tokens that stand for no text."""
        return {token["content"] for token in self.content["added_tokens"] if token["special"]}

    @property
    def unknown_token(self) -> str:
        """The token for text that has no other; empty if there is none."""
        model = self.content["model"]
        number = model.get("unk_id")
        return str(model["vocab"][number][0] if number is not None else model.get("unk_token") or "")

    @property
    def merges(self) -> list[tuple[str, str]]:
        """The pairs that a BPE merges, by rank; older files have each as one string."""
        pairs = self.content["model"]["merges"]
        return [tuple(pair.split(" ") if isinstance(pair, str) else pair) for pair in pairs]

    @property
    def writes_spaces(self) -> bool:
        """Whether it is a BPE that writes spaces as SentencePiece does."""
        return self.algorithm == "BPE" and self.content["normalizer"] == SPACE_NORMALIZER

    @property
    def splits_at_spaces(self) -> bool:
        """Whether its pruned form gives a text the tokens of its words, each tokenized alone."""
        parts = (self.content["normalizer"] or {}), (self.content["pre_tokenizer"] or {})
        return self.writes_spaces or [part.get("type") for part in parts] == ["BertNormalizer", "BertPreTokenizer"]

    def keep(self, tokens: Iterable[str]) -> str:
        """Return a tokenizer.json with these tokens only, numbered in their order; it adds no special tokens."""
        model = self.content["model"]
        ids = {token: number for number, token in enumerate(tokens)}
        kept: dict[str, object] = {"vocab": ids}
        if self.algorithm == "Unigram":
            entries = [model["vocab"][self.ids[token]] for token in ids]
            kept = {"vocab": entries, "unk_id": ids.get(self.unknown_token)}
        if self.algorithm == "BPE":
            kept["merges"] = [pair for pair in self.merges if all(part in ids for part in (*pair, "".join(pair)))]
        smaller = self.content | REMOVED | {"model": model | kept}
        if self.writes_spaces:
            decoders = [*(self.content.get("decoder") or {}).get("decoders", []), STRIP_FIRST_SPACE]
            smaller |= SPLIT_AT_SPACES | {"decoder": {"type": "Sequence", "decoders": decoders}}
        return manifest.canonical(smaller).decode()
