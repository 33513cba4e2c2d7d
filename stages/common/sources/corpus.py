"""Texts to learn from, without labels: a user's file, or what the installed packages carry.

By default a third is API documentation of parameters (botocore, Apache-2.0), the rest Wikipedia (CC BY-SA 3.0, in
gensim's wheel): one domain in depth, and general language. No sentence of the default suite is among them.
"""

import bz2
import random
import re
from collections.abc import Iterable, Iterator, Set
from pathlib import Path

from embed_foundry.errors import InputError

from stages.common.sources import aws, rows

WIKIPEDIA = "test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
# In characters: shorter sentences name nothing, longer ones are lists.
SHORTEST, LONGEST = 25, 300
SEED = 0


def sample_texts(file: Path | None, count: int) -> list[str]:
    """Return at most `count` different sentences, in a fixed order that mixes their sources.

    Args:
        file: CSV, JSON lines or Parquet with a column `text`; None takes the packages' text.
        count: sentences wanted.

    Raises:
        InputError: the file is missing, unreadable, or has no such column, or no sentence in it.
    """
    if file is not None:
        if not (sentences := _sample(_read_column(file), count)):
            raise InputError(f"{file}: has no sentence of {SHORTEST} to {LONGEST} characters. Choose other texts.")
        return sentences
    evaluated = _split_into_sentences(text for item in aws.load_operations() for text in (item.summary, item.details))
    third = count // 3
    sentences = _sample(aws.load_parameter_texts(), third, evaluated) + _sample(_read_wikipedia(), count - third)
    random.Random(SEED).shuffle(sentences)  # noqa: S311 - an order, not a secret
    return sentences


def _sample(paragraphs: Iterable[str], count: int, excluded: Set[str] = frozenset()) -> list[str]:
    """Return a seeded sample of the sentences of paragraphs."""
    sentences = sorted(_split_into_sentences(paragraphs) - excluded)
    return random.Random(SEED).sample(sentences, min(count, len(sentences)))  # noqa: S311


def _split_into_sentences(paragraphs: Iterable[str]) -> set[str]:
    """Return the sentences of a usable length, white space normalised."""
    pieces = (piece for text in paragraphs for piece in aws.SENTENCE_END.split(" ".join(text.split())))
    return {piece for piece in pieces if SHORTEST <= len(piece) <= LONGEST}


def _read_column(file: Path) -> list[str]:
    """Return the column `text` of a user's file, empty values left out."""
    if not file.is_file() or file.suffix not in rows.FORMATS:
        raise InputError(f"{file}: no such file of texts; expected one of {', '.join(rows.FORMATS)}. Correct the path.")
    records = rows.read(file)
    if "text" not in records[0]:
        raise InputError(f"{file}: has columns {sorted(records[0])}, expected one named text. Rename it.")
    return [str(record["text"]) for record in records if record.get("text")]


def _read_wikipedia() -> Iterator[str]:
    """Yield the paragraphs of the articles in gensim's wheel, without titles, tables and other markup."""
    import gensim
    from gensim.corpora.wikicorpus import extract_pages, filter_wiki

    with bz2.open(Path(gensim.__file__).parent / WIKIPEDIA) as file:
        for _, markup, _ in extract_pages(file, ("0",)):
            for line in filter_wiki(markup).split("\n"):
                text = re.sub("'{2,}", "", line).strip(" *:#'")
                if not text.startswith(("=", "|", "{", "!")):
                    yield text
