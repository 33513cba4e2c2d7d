"""Tokens that a tokenizer takes out of a text before its model sees the rest, as Hugging Face tokenizers does.

SentencePiece splits a quoted "<bos>" like any other text; the models that ship with it were trained, and are run by
sentence-transformers, with the tokenizer that finds it.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from ..manifest import JsonObject

# What SentencePiece writes for a space; a normalised text has it instead.
SPACE = "\u2581"


@dataclass(frozen=True)
class AddedToken:
    """One token, with the flags of tokenizers' AddedToken.

    Attributes:
        content: its text.
        id: its number.
        single_word: it is found only where no letter or digit touches it.
        lstrip, rstrip: the white space before or after it belongs to it.
        normalized: it is looked for after the text was normalised, which writes spaces as "▁".
    """

    content: str
    id: int
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False

    @classmethod
    def parse(cls, raw: JsonObject) -> "AddedToken":
        """Return one entry of variant.json; a missing or unknown key raises TypeError."""
        return cls(**raw)

    def to_json(self) -> JsonObject:
        """Return the JSON value that `parse` reads back: flags only where they are set."""
        return {key: value for key, value in asdict(self).items() if value is not False}


class AddedTokenSplitter:
    """Splits texts at added tokens: at those that are not normalised first, then, in the rest, at the others.

    Where several match, the leftmost counts, and of those the longest.
    """

    def __init__(self, tokens: Sequence[AddedToken]) -> None:
        groups = [[token for token in tokens if token.normalized is normalized] for normalized in (False, True)]
        self._searches = [_Search(group) for group in groups if group]

    def split(self, text: str) -> list[str | int]:
        """Return a text's parts in order: an added token's id, or a piece of text that holds none; none is empty."""
        parts: list[str | int] = [text] if text else []
        for search in self._searches:
            parts = [piece for part in parts for piece in ([part] if isinstance(part, int) else search.split(part))]
        return parts


class _Search:
    def __init__(self, tokens: Sequence[AddedToken]) -> None:
        self.tokens = {_fold(token): token for token in tokens}
        self.normalized = tokens[0].normalized
        longest_first = sorted(self.tokens, key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, longest_first)))

    def split(self, text: str) -> Iterator[str | int]:
        # One character for one: positions are those of the text.
        folded = text.replace(" ", SPACE) if self.normalized else text
        end = 0
        for match in self.pattern.finditer(folded):
            token, start, stop = self.tokens[match.group()], match.start(), match.end()
            if token.single_word and (re.match(r"\w", text[stop:]) or re.search(r"\w\Z", text[:start])):
                continue
            if token.lstrip:
                start = max(end, len(text[:start].rstrip()))
            if token.rstrip:
                stop = len(text) - len(text[stop:].lstrip())
            if text[end:start]:
                yield text[end:start]
            yield token.id
            end = stop
        if text[end:]:
            yield text[end:]


def _fold(token: AddedToken) -> str:
    return token.content.replace(" ", SPACE) if token.normalized else token.content
