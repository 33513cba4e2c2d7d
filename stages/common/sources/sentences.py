"""Sentences and lengths of a user's text in any script, by Unicode's rules (ICU)."""

import re
from collections.abc import Iterator
from itertools import pairwise
from unicodedata import category, east_asian_width

# Thai, Lao and Tibetan have no full stop; spaces stand between their sentences and clauses.
_STOPLESS = "\u0e00-\u0fff"
_CLAUSE_END = re.compile(rf"(?<=[{_STOPLESS}])\s+(?=[{_STOPLESS}])")
# In columns: their clauses are joined until they say as much as a sentence; what has no space is cut at words.
_CLAUSE, _LONG = 30, 300
# A Greek question ends with what is a semicolon elsewhere, so its rules are a locale of their own. English is the root
# rules without a break after "Mr." and its like.
_GREEK = re.compile("[\u0370-\u03ff]")
_LOCALE = "en@ss=standard"
_INVISIBLE = dict.fromkeys((0xAD, 0xFEFF))  # soft hyphen, byte order mark


def measure_width(text: str) -> int:
    """Return a text's length in columns: wide characters (Han, kana, Hangul) count two, as Unicode's UAX #11 says.

    A column says about as much in every script, so that limits made for English hold elsewhere. In Django's messages,
    the English text has 0.8 to 1.25 characters for each column of its translation in 20 languages, 1.5 in Chinese.
    """
    return len(text) if text.isascii() else len(text) + sum(east_asian_width(character) in "WF" for character in text)


def split_into_sentences(text: str) -> list[str]:
    """Return a text's sentences, each on one line, in order; a text without an end of a sentence is one sentence."""
    from icu4py.breakers import SentenceBreaker

    text = join_lines(text)
    greek = len(_GREEK.findall(text)) > len(text) // 3
    sentences: list[str] = []
    opening = ""
    for segment in SentenceBreaker(text, "el" if greek else _LOCALE):
        sentence, opening = _detach_opening(opening + segment)
        sentences += _split_stopless(sentence.strip())
    return [sentence for sentence in (*sentences, opening) if sentence]


def cut_text(text: str, width: int) -> list[str]:
    """Return a text in pieces of at most `width` columns, cut where ICU lets a line end, or anywhere if it must."""
    from icu4py.breakers import LineBreaker

    pieces = [""]
    total = 0
    for segment in LineBreaker(text, _LOCALE):
        for part in (segment[start : start + width // 2] for start in range(0, len(segment), width // 2)):
            added = measure_width(part)
            if total and total + added > width:
                pieces.append("")
                total = 0
            pieces[-1] += part
            total += added
    return [piece for piece in map(str.strip, pieces) if piece]


def join_lines(text: str) -> str:
    """Return a text on one line.

    White space becomes one space; an end of line between Han or kana disappears, as in CSS (Text, segment breaks).
    """
    lines = [line for line in (" ".join(line.translate(_INVISIBLE).split()) for line in text.split("\n")) if line]
    joined = lines[:1]
    for previous, line in pairwise(lines):
        joined += [line] if _is_han_or_kana(previous[-1]) and _is_han_or_kana(line[0]) else [" ", line]
    return "".join(joined)


def _is_han_or_kana(character: str) -> bool:
    hangul = "\u1100" <= character <= "\u11ff" or "\uac00" <= character <= "\ud7af"
    return not hangul and east_asian_width(character) in "WFH"


def _detach_opening(segment: str) -> tuple[str, str]:
    """Return a sentence, and the quotation marks or brackets at its end that open the next one.

    ICU leaves them with the sentence before where no space stands between the two, as in Chinese.
    """
    end = len(segment)
    while end and category(segment[end - 1]) in ("Ps", "Pi"):
        end -= 1
    return segment[:end], segment[end:]


def _split_stopless(sentence: str) -> Iterator[str]:
    """Yield a sentence; one of a script without full stops clause by clause."""
    if not (clauses := _CLAUSE_END.split(sentence))[1:] and not re.search(f"[{_STOPLESS}]", sentence):
        yield sentence
        return
    collected = ""
    for clause in clauses:
        collected = f"{collected} {clause}".strip()
        if measure_width(collected) >= _CLAUSE:
            yield from cut_text(collected, _LONG)
            collected = ""
    if collected:
        yield collected
