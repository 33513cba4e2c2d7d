"""Inputs of an exact length in tokens, cut from real texts."""

from bisect import bisect_left
from collections.abc import Callable, Sequence

from ..errors import InputError

# Characters on each side of the estimated end in which an exact end is searched for.
SEARCH_RADIUS = 24
# More characters a token than texts have on average; bounds how much of a very long document is tokenized.
CHARACTERS_PER_TOKEN_MAX = 16

# Texts -> their lengths in tokens, special ones included.
TokenCounter = Callable[[list[str]], list[int]]


def cut_exact_texts(documents: Sequence[str], tokens: int, how_many: int, count_tokens: TokenCounter) -> list[str]:
    """Return texts of exactly `tokens` tokens, each from the beginning of another document.

    A document that is too short is continued by the next ones. A text ends after the character that makes it fit, and
    after a whole word where that is possible.

    Args:
        documents: real texts.
        tokens: the length, special tokens included.
        how_many: texts wanted; fewer are returned only if fewer documents lead to an exact length.
        count_tokens: texts -> their lengths in tokens.

    Raises:
        InputError: no document can be cut to that length.
    """
    texts: list[str] = []
    for first in range(len(documents)):
        if len(texts) == how_many:
            break
        text = _cut_to_length(_join_documents(documents, first, tokens, count_tokens), tokens, count_tokens)
        if text is not None and text not in texts:
            texts.append(text)
    if not texts:
        raise InputError(
            f"latency: no text of exactly {tokens} tokens can be cut from {len(documents)} documents. "
            "Choose another length in latency.lengths."
        )
    return texts


def _join_documents(documents: Sequence[str], first: int, tokens: int, count_tokens: TokenCounter) -> str:
    """Return documents from index `first` on, joined until they exceed `tokens` tokens or each was used once."""
    text, index = documents[first][: tokens * CHARACTERS_PER_TOKEN_MAX], first
    while len(text) < tokens or count_tokens([text])[0] <= tokens:
        index = (index + 1) % len(documents)
        if index == first:
            break
        text = f"{text} {documents[index]}"
    return text


def _cut_to_length(text: str, tokens: int, count_tokens: TokenCounter) -> str | None:
    """Return a beginning of `text` with exactly `tokens` tokens, or None.

    The token count of a beginning rises almost steadily with its length: a bisection estimates the end, and a search
    around it finds the exact ends.
    """
    estimate = bisect_left(range(len(text)), tokens, key=lambda end: count_tokens([text[:end]])[0])
    ends = range(max(1, estimate - SEARCH_RADIUS), min(len(text), estimate + SEARCH_RADIUS) + 1)
    counts = count_tokens([text[:end] for end in ends])
    exact_ends = [end for end, count in zip(ends, counts, strict=True) if count == tokens]
    word_ends = [end for end in exact_ends if end == len(text) or text[end] == " "]
    end = max(word_ends or exact_ends, default=None)
    return None if end is None else text[:end]
