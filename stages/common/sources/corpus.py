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

from stages.common.sources import aws, documents, rows
from stages.common.sources.sentences import measure_width, split_into_sentences

WIKIPEDIA = "test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
# In characters, of a user's texts in columns: shorter sentences name nothing, longer ones are lists.
SHORTEST, LONGEST = 25, 300
SEED = 0


def sample_texts(file: Path | None, count: int) -> list[str]:
    """Return at most `count` different sentences, in a fixed order that mixes their sources.

    Args:
        file: CSV, JSON lines or Parquet with a column `text`, a document, or a folder of documents; None takes the
            packages' text.
        count: sentences wanted.

    Raises:
        InputError: the file is missing, unreadable, or has no such column, no text in it, or no sentence.
    """
    if file is not None:
        if not (sentences := _sample(_select_sentences(_read_texts(file)), count)):
            raise InputError(
                f"{file}: has no sentence of {SHORTEST} to {LONGEST} characters (a Chinese, Japanese or Korean one "
                "counts two). Choose other texts."
            )
        return sentences
    evaluated = _split_english(text for item in aws.load_operations() for text in (item.summary, item.details))
    third = count // 3
    documented, general = _split_english(aws.load_parameter_texts()), _split_english(_read_wikipedia())
    sentences = _sample(documented - evaluated, third) + _sample(general, count - third)
    random.Random(SEED).shuffle(sentences)  # noqa: S311 - an order, not a secret
    return sentences


def sample_packaged_texts(count: int) -> list[str]:
    """Return at most `count` sentences of what the installed packages carry: see `sample_texts`."""
    return sample_texts(None, count)


def _sample(sentences: Set[str], count: int) -> list[str]:
    """Return a seeded sample of sentences."""
    return random.Random(SEED).sample(sorted(sentences), min(count, len(sentences)))  # noqa: S311


def _split_english(paragraphs: Iterable[str]) -> set[str]:
    """Return the sentences of a usable length of the packages' text, white space normalised."""
    pieces = (piece for text in paragraphs for piece in aws.SENTENCE_END.split(" ".join(text.split())))
    return {piece for piece in pieces if SHORTEST <= len(piece) <= LONGEST}


def _select_sentences(paragraphs: Iterable[str]) -> set[str]:
    """Return the sentences of a usable length of a user's text in any script."""
    pieces = (piece for text in paragraphs for piece in split_into_sentences(text))
    return {piece for piece in pieces if SHORTEST <= measure_width(piece) <= LONGEST}


def _read_texts(file: Path) -> Iterable[str]:
    """Return a user's texts: a file's column `text`, or the prose of documents."""
    if file.is_dir() or (file.is_file() and file.suffix.lower() in documents.READERS):
        paths = documents.list_documents(file) if file.is_dir() else [file]
        blocks = (block for path in paths for block in documents.read_document(path))
        return (block.text for block in blocks if block.kind is documents.BlockKind.PROSE)
    return _read_column(file)


def _read_column(file: Path) -> list[str]:
    """Return the column `text` of a user's file, "" where it is blank."""
    if not file.is_file() or file.suffix not in rows.FORMATS:
        formats = ", ".join([*rows.FORMATS, *documents.READERS])
        raise InputError(f"{file}: no such file of texts; expected a folder or one of {formats}. Correct the path.")
    records = rows.read(file)
    if "text" not in records[0]:
        raise InputError(f"{file}: has columns {sorted(records[0])}, expected one named text. Rename it.")
    return [_check_text(file, number, record.get("text")) for number, record in enumerate(records, start=1)]


def _check_text(file: Path, number: int, value: object) -> str:
    """Return a row's text, "" if it has none."""
    blank = value is None or (isinstance(value, str) and not value.strip())
    return "" if blank else rows.require_text(file, number, "text", value)


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
