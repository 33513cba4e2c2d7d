"""Documents of one's own -> passages -> questions, by the documents' structure: headings, titles, first sentences."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from embed_foundry.errors import InputError

from stages.common.sources.aws import DOCUMENT_MIN, QUERY_MIN, SENTENCE_END
from stages.common.sources.rows import read_text
from stages.finetune.triplets import Triplet

# A passage ends with the paragraph that takes it past this many characters: about 200 tokens of English.
PASSAGE = 900
HEADING = re.compile(r"(#{1,6})\s+(.+?)\s*#*")
_HEADINGS = {f"h{level}": "#" * level for level in range(1, 7)}
_BLOCKS = {"p", "li", "div", "br", "tr", "pre", "section", "article", "dt", "dd", "title"}
_UNSEEN = {"script", "style", "title"}


@dataclass(frozen=True)
class Passage:
    """A piece of a document: its file, the titles above it (outermost first), whether it opens a section, its text."""

    document: str
    titles: tuple[str, ...]
    opens: bool
    text: str


def passages(root: Path) -> list[Passage]:
    """Return the passages of every .md, .txt and .html file under a folder, in the order of their paths.

    Raises:
        InputError: no such folder, a file that is not UTF-8, or nothing long enough in it.
    """
    if not root.is_dir():
        raise InputError(f"finetune.data.path {root}: is not a folder. Set it to one with {', '.join(READERS)} files.")
    found = []
    for path in sorted(root.rglob("*")):
        if path.is_file() and (reader := READERS.get(path.suffix.lower())):
            found += list(_passages(path.relative_to(root).as_posix(), reader(read_text(path))))
    if not found:
        raise InputError(
            f"finetune.data.path {root}: no {', '.join(READERS)} file has a paragraph of {DOCUMENT_MIN} characters."
        )
    return found


def by_structure(found: list[Passage]) -> list[Triplet]:
    """Return for each passage its question: the titles above it where it opens a section, else its first sentence.

    The question is taken out of the passage, which would otherwise answer by repeating it.
    """
    triplets = []
    for passage in found:
        summary, *rest = SENTENCE_END.split(passage.text, maxsplit=1)
        if passage.opens and passage.titles:
            triplets.append(Triplet(": ".join(passage.titles[-2:]), passage.text, group=passage.document))
        elif rest and len(summary) >= QUERY_MIN and len(rest[0]) >= DOCUMENT_MIN:
            triplets.append(Triplet(summary, rest[0], group=passage.document))
    return triplets


def _passages(name: str, content: str) -> Iterator[Passage]:
    titles: dict[int, str] = {}
    opens, collected = False, ""
    for block in [*re.split(r"\n\s*\n|(?=^#{1,6}\s)|(?<=\n)(?=#{1,6}\s)", content), "# "]:
        first, _, rest = block.strip().partition("\n")
        heading = HEADING.fullmatch(first)
        if heading or block == "# " or len(collected) >= PASSAGE:
            if len(collected) >= DOCUMENT_MIN:
                yield Passage(name, tuple(titles[level] for level in sorted(titles)), opens, collected)
                opens = False
            collected = ""
        if heading:
            level = len(heading[1])
            titles = {above: title for above, title in titles.items() if above < level} | {level: heading[2]}
            opens = True
        collected = " ".join([collected, *(rest if heading else block).split()]).strip()


class _Blocks(HTMLParser):
    """Turns HTML into paragraphs and headings with number signs."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.unseen = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open a block."""
        self.unseen += tag in _UNSEEN
        if tag in _HEADINGS:
            self.parts.append(f"\n\n{_HEADINGS[tag]} ")
        elif tag in _BLOCKS:
            self.parts.append("\n\n")

    def handle_endtag(self, tag: str) -> None:
        """Close a block."""
        self.unseen -= tag in _UNSEEN
        if tag in _HEADINGS or tag in _BLOCKS:
            self.parts.append("\n\n")

    def handle_data(self, data: str) -> None:
        """Keep what a reader sees, on one line."""
        if not self.unseen:
            self.parts.append(" ".join(data.split()) + " " if data.strip() else "")


def _html(content: str) -> str:
    parser = _Blocks()
    parser.feed(content)
    parser.close()
    return "".join(parser.parts)


READERS: dict[str, Callable[[str], str]] = {".md": str, ".txt": str, ".html": _html}
