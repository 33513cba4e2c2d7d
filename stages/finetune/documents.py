"""The user's documents -> passages -> questions, taken from the documents' headings, titles and first sentences."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, takewhile
from pathlib import Path

from embed_foundry.errors import InputError

from stages.common.sources.aws import DOCUMENT_MIN, QUERY_MIN
from stages.common.sources.documents import READERS, Block, BlockKind, list_documents, read_document
from stages.common.sources.sentences import cut_text, join_lines, measure_width, split_into_sentences
from stages.finetune.triplets import Triplet

# A passage ends with the block that takes it past this many columns: about 200 tokens of English. Of a longer block,
# with the sentence or the line.
PASSAGE = 900


@dataclass(frozen=True)
class Passage:
    """A piece of a document.

    Attributes:
        document: the file's path, relative to the folder.
        titles: the titles above it, outermost first.
        opens: whether it is the first passage below its titles.
        text: its text, on one line.
        lead: the prose that it begins with, a paragraph or sentence a line; "" if it begins with code or a table.
        line: the file's line on which it begins, from 1; None where a format has no lines.
        page: the page on which it begins, from 1; None where a format has no pages.
    """

    document: str
    titles: tuple[str, ...]
    opens: bool
    text: str
    lead: str = ""
    line: int | None = None
    page: int | None = None


def read_passages(root: Path) -> list[Passage]:
    """Return the passages of every document under a folder, in the order of their paths.

    Raises:
        InputError: there is no such folder, a file cannot be read, or no paragraph is long enough.
    """
    if not root.is_dir():
        raise InputError(f"finetune.data.path {root}: is not a folder. Set it to one with {', '.join(READERS)} files.")
    passages: list[Passage] = []
    for path in list_documents(root):
        passages += _join_into_passages(path.relative_to(root).as_posix(), read_document(path))
    if not passages:
        raise InputError(
            f"finetune.data.path {root}: no {', '.join(READERS)} file has a section of {DOCUMENT_MIN} characters "
            "(a Chinese, Japanese or Korean one counts two)."
        )
    return passages


def derive_examples(passages: list[Passage]) -> list[Triplet]:
    """Return the passages with their questions: the titles above one that opens a section, else its first sentence.

    A short sentence takes the next one with it. What becomes a question is removed from its passage, which would
    otherwise answer by repeating it.
    """
    triplets = []
    for passage in passages:
        if passage.opens:
            triplets.append(Triplet(": ".join(passage.titles[-2:]), passage.text, group=passage.document))
        elif question := _take_question(passage.lead):
            answer = passage.text.removeprefix(question).strip()
            if measure_width(answer) >= DOCUMENT_MIN:
                triplets.append(Triplet(question, answer, group=passage.document))
    return triplets


def _take_question(lead: str) -> str:
    """Return the first sentences of a text that are long enough for a question; "" if there are none."""
    question = ""
    for sentence in chain.from_iterable(map(split_into_sentences, lead.split("\n"))):
        question = join_lines(f"{question}\n{sentence}")
        if measure_width(question) >= QUERY_MIN:
            return question
    return ""


def _join_into_passages(document: str, blocks: list[Block]) -> Iterator[Passage]:
    """Yield the passages of one document."""
    titles: dict[int, str] = {}
    section: list[Block] = []
    for block in [*blocks, None]:
        if block is not None and block.kind is not BlockKind.HEADING:
            section.append(block)
            continue
        yield from _divide_section(document, titles, section)
        section = []
        if block:
            titles = {level: title for level, title in titles.items() if level < block.level}
            titles[block.level] = block.text


def _divide_section(document: str, titles: dict[int, str], section: list[Block]) -> Iterator[Passage]:
    """Yield the passages of what stands below one heading."""
    groups: list[list[Block]] = []
    for block in chain.from_iterable(map(_divide, section)):
        if not groups or _measure(groups[-1]) >= PASSAGE:
            groups.append([])
        groups[-1].append(block)
    if len(groups) > 1 and _measure(groups[-1]) < DOCUMENT_MIN:
        rest = groups.pop()
        groups[-1] += rest
    for index, group in enumerate(groups):
        if _measure(group) >= DOCUMENT_MIN:
            yield Passage(
                document,
                tuple(titles[level] for level in sorted(titles)),
                opens=bool(titles) and index == 0,
                text=join_lines("\n".join(block.text for block in group)),
                lead="\n".join(block.text for block in takewhile(_is_prose, group)),
                line=group[0].line,
                page=group[0].page,
            )


def _is_prose(block: Block) -> bool:
    return block.kind is BlockKind.PROSE


def _measure(blocks: list[Block]) -> int:
    return sum(measure_width(block.text) for block in blocks)


def _divide(block: Block) -> Iterator[Block]:
    """Yield a block; one that is longer than a passage in sentences or, of code and tables, in lines."""
    if measure_width(block.text) <= PASSAGE:
        yield block
        return
    units = split_into_sentences(block.text) if _is_prose(block) else block.text.split("\n")
    for unit in units:
        yield from (replace(block, text=piece) for piece in cut_text(unit, PASSAGE))
