"""The user's documents -> passages -> questions, taken from the documents' headings, titles and first sentences."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from embed_foundry.errors import InputError

from stages.common.sources import rows
from stages.common.sources.aws import DOCUMENT_MIN, QUERY_MIN, SENTENCE_END
from stages.finetune.triplets import Triplet

# A passage ends with the paragraph that takes it past this many characters: about 200 tokens of English.
PASSAGE = 900
HEADING = re.compile(r"(#{1,6})\s+(.+?)\s*#*")
_HEADINGS = {f"h{level}": "#" * level for level in range(1, 7)}
_BLOCKS = {"p", "li", "div", "br", "tr", "pre", "section", "article", "dt", "dd", "title"}
_INVISIBLE = {"script", "style", "title"}


@dataclass(frozen=True)
class Passage:
    """A piece of a document.

    Attributes:
        document: the file's path, relative to the folder.
        titles: the titles above it, outermost first.
        opens: whether it is the first passage of its section.
        text: its text, on one line.
    """

    document: str
    titles: tuple[str, ...]
    opens: bool
    text: str


def read_passages(root: Path) -> list[Passage]:
    """Return the passages of every .md, .txt and .html file under a folder, in the order of their paths.

    Raises:
        InputError: there is no such folder, a file is not UTF-8, or no paragraph is long enough.
    """
    if not root.is_dir():
        raise InputError(f"finetune.data.path {root}: is not a folder. Set it to one with {', '.join(READERS)} files.")
    passages: list[Passage] = []
    for path in sorted(root.rglob("*")):
        if path.is_file() and (reader := READERS.get(path.suffix.lower())):
            passages += _split_into_passages(path.relative_to(root).as_posix(), reader(rows.read_text(path)))
    if not passages:
        raise InputError(
            f"finetune.data.path {root}: no {', '.join(READERS)} file has a paragraph of {DOCUMENT_MIN} characters."
        )
    return passages


def derive_examples(passages: list[Passage]) -> list[Triplet]:
    """Return the passages with their questions: the titles above one that opens a section, else its first sentence.

    A first sentence is removed from its passage, which would otherwise answer by repeating it.
    """
    triplets = []
    for passage in passages:
        summary, *rest = SENTENCE_END.split(passage.text, maxsplit=1)
        if passage.opens and passage.titles:
            triplets.append(Triplet(": ".join(passage.titles[-2:]), passage.text, group=passage.document))
        elif rest and len(summary) >= QUERY_MIN and len(rest[0]) >= DOCUMENT_MIN:
            triplets.append(Triplet(summary, rest[0], group=passage.document))
    return triplets


def _split_into_passages(document: str, content: str) -> Iterator[Passage]:
    """Yield the passages of one document, given as paragraphs and headings with number signs."""
    titles: dict[int, str] = {}
    opens, collected = False, ""
    for block in [*re.split(r"\n\s*\n|(?=^#{1,6}\s)|(?<=\n)(?=#{1,6}\s)", content), "# "]:
        first, _, rest = block.strip().partition("\n")
        heading = HEADING.fullmatch(first)
        if heading or block == "# " or len(collected) >= PASSAGE:
            if len(collected) >= DOCUMENT_MIN:
                yield Passage(document, tuple(titles[level] for level in sorted(titles)), opens, collected)
                opens = False
            collected = ""
        if heading:
            level = len(heading[1])
            titles = {above: title for above, title in titles.items() if above < level} | {level: heading[2]}
            opens = True
        collected = " ".join([collected, *(rest if heading else block).split()]).strip()


class _BlockParser(HTMLParser):
    """Turns HTML into paragraphs and headings with number signs."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.invisible_depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open a block."""
        self.invisible_depth += tag in _INVISIBLE
        if tag in _HEADINGS:
            self.parts.append(f"\n\n{_HEADINGS[tag]} ")
        elif tag in _BLOCKS:
            self.parts.append("\n\n")

    def handle_endtag(self, tag: str) -> None:
        """Close a block."""
        self.invisible_depth -= tag in _INVISIBLE
        if tag in _HEADINGS or tag in _BLOCKS:
            self.parts.append("\n\n")

    def handle_data(self, data: str) -> None:
        """Keep what a reader sees, on one line."""
        if not self.invisible_depth:
            self.parts.append(" ".join(data.split()) + " " if data.strip() else "")


def _read_html(content: str) -> str:
    """Return an HTML page as paragraphs and headings with number signs."""
    parser = _BlockParser()
    parser.feed(content)
    parser.close()
    return "".join(parser.parts)


# Suffix -> what turns a file's text into paragraphs and headings with number signs.
READERS: dict[str, Callable[[str], str]] = {".md": str, ".txt": str, ".html": _read_html}
