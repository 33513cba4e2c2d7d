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


def texts(file: Path | None, how_many: int) -> list[str]:
    """Return at most so many different sentences, in a fixed order that mixes them.

    Args:
        file: CSV, JSON lines or Parquet with a column `text`; None takes the packages' text.
        how_many: sentences wanted.

    Raises:
        InputError: the file is missing, unreadable, or has no such column, or no sentence in it.
    """
    if file is not None:
        if not (found := _drawn(_column(file), how_many)):
            raise InputError(f"{file}: has no sentence of {SHORTEST} to {LONGEST} characters. Choose other texts.")
        return found
    evaluated = _sentences(text for one in aws.load_operations() for text in (one.summary, one.details))
    third = how_many // 3
    mixed = _drawn(aws.load_parameter_texts(), third, evaluated) + _drawn(_wikipedia(), how_many - third)
    random.Random(SEED).shuffle(mixed)  # noqa: S311 - an order, not a secret
    return mixed


def _drawn(paragraphs: Iterable[str], how_many: int, without: Set[str] = frozenset()) -> list[str]:
    """Return a seeded sample of the sentences of paragraphs."""
    kept = sorted(_sentences(paragraphs) - without)
    return random.Random(SEED).sample(kept, min(how_many, len(kept)))  # noqa: S311


def _sentences(paragraphs: Iterable[str]) -> set[str]:
    pieces = (piece for text in paragraphs for piece in aws.SENTENCE_END.split(" ".join(text.split())))
    return {piece for piece in pieces if SHORTEST <= len(piece) <= LONGEST}


def _column(file: Path) -> list[str]:
    if not file.is_file() or file.suffix not in rows.FORMATS:
        raise InputError(f"{file}: no such file of texts; expected one of {', '.join(rows.FORMATS)}. Correct the path.")
    found = rows.read(file)
    if "text" not in found[0]:
        raise InputError(f"{file}: has columns {sorted(found[0])}, expected one named text. Rename it.")
    return [str(row["text"]) for row in found if row.get("text")]


def _wikipedia() -> Iterator[str]:
    import gensim
    from gensim.corpora.wikicorpus import extract_pages, filter_wiki

    with bz2.open(Path(gensim.__file__).parent / WIKIPEDIA) as file:
        for _, markup, _ in extract_pages(file, ("0",)):
            for line in filter_wiki(markup).split("\n"):
                text = re.sub("'{2,}", "", line).strip(" *:#'")
                if not text.startswith(("=", "|", "{", "!")):
                    yield text
