"""Inputs of an exact length in tokens, cut from the suite's own documents."""

import random
from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path

from embed_foundry.errors import InputError

from stages.common.sources import suite_files

# How far around the estimated place a cut is searched, in characters.
REACH = 24
# Characters a token hardly ever exceeds on average; bounds what is counted of one very long document.
CHARACTERS = 16

Count = Callable[[list[str]], list[int]]


def passages(data: Path, rng: random.Random) -> list[str]:
    """Return the documents of all retrieval tasks in a seeded order, white space collapsed.

    Raises:
        InputError: there is none.
    """
    documents = suite_files.read_passages(data)
    rng.shuffle(documents)
    return documents


def exact(documents: Sequence[str], tokens: int, how_many: int, count: Count) -> list[str]:
    """Return `how_many` texts of exactly `tokens` tokens, each from the beginning of another document.

    A text is a document, continued by the next ones where it is too short, cut after the character that makes it fit;
    after a whole word where that is possible.

    Args:
        documents: real texts.
        tokens: the length, special tokens included.
        how_many: texts wanted; fewer are returned only if fewer documents lead to an exact length.
        count: texts -> their lengths in tokens.

    Raises:
        InputError: no document can be cut to that length.
    """
    texts: list[str] = []
    for start in range(len(documents)):
        if len(texts) == how_many:
            break
        text = _cut(_stream(documents, start, tokens, count), tokens, count)
        if text is not None and text not in texts:
            texts.append(text)
    if not texts:
        raise InputError(
            f"latency: no text of exactly {tokens} tokens can be cut from the suite's {len(documents)} documents. "
            "Choose another length in latency.lengths."
        )
    return texts


def _stream(documents: Sequence[str], start: int, tokens: int, count: Count) -> str:
    """Return documents from `start` on, joined until they have more than `tokens` tokens or each was used once."""
    text, at = documents[start][: tokens * CHARACTERS], start
    while len(text) < tokens or count([text])[0] <= tokens:
        at = (at + 1) % len(documents)
        if at == start:
            break
        text = f"{text} {documents[at]}"
    return text


def _cut(text: str, tokens: int, count: Count) -> str | None:
    """Return a beginning of `text` with exactly `tokens` tokens, or None.

    Token counts of beginnings rise almost steadily with their length: a bisection finds the place, a look around it
    the exact cuts.
    """
    place = bisect_left(range(len(text)), tokens, key=lambda end: count([text[:end]])[0])
    ends = range(max(1, place - REACH), min(len(text), place + REACH) + 1)
    cuts = [text[:end] for end in ends]
    fits = [(end, cut) for end, cut, found in zip(ends, cuts, count(cuts), strict=True) if found == tokens]
    whole = [cut for end, cut in fits if end == len(text) or text[end] == " "]
    return whole[-1] if whole else fits[-1][1] if fits else None
